#include "server/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace weightstream {
namespace {

// Who waits to speak takes nothing but a descriptor; when one more comes, the one that has waited the longest goes.
constexpr uint64_t kWaiting = 512;
// Versions that are open or mapped, updates, gRPC's own.
constexpr uint64_t kOthers = 1024;

}  // namespace

DescriptorBudget AllowConnections(uint64_t connections) {
  const rlim_t wanted = connections + kWaiting + kOthers;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {connections, kWaiting};
  if (limit.rlim_cur < wanted) {
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  if (limit.rlim_cur >= wanted) return {connections, kWaiting};
  const DescriptorBudget budget{std::min<uint64_t>(connections, limit.rlim_cur / 2),
                                std::min<uint64_t>(kWaiting, limit.rlim_cur / 4)};
  LogWarning("few_descriptors", {{"allowed", limit.rlim_cur},
                                 {"wanted", wanted},
                                 {"connections", budget.connections},
                                 {"note", "raise the hard limit on open files, or lower --max-connections"}});
  return budget;
}

}  // namespace weightstream
