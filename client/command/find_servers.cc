#include "client/command/find_servers.h"

#include <thread>
#include <utility>

#include "client/command/signals.h"
#include "client/fleet.h"
#include "client/start_thread.h"

namespace weightstream::command {

absl::StatusOr<std::vector<std::string>> FindServers(const std::vector<std::string>& items, absl::Duration limit,
                                                     Security& security) {
  absl::StatusOr<Fleet> fleet = FindFleet(items, SystemNameLookup(limit, Interrupted));
  if (!fleet.ok()) return fleet.status();
  security.tls_names = std::move(fleet->tls_names);
  return std::move(fleet->servers);
}

void OnEachServer(size_t servers, const std::function<void(size_t)>& work) {
  std::vector<std::thread> threads(servers);
  for (size_t i = 1; i < servers; ++i) {
    if (!StartThread(threads[i], [&work, i] { work(i); }).ok()) work(i);
  }
  if (servers > 0) work(0);
  for (std::thread& thread : threads) {
    if (thread.joinable()) thread.join();
  }
}

}  // namespace weightstream::command
