#include "server/open_connections.h"

#include <sys/stat.h>

#include <algorithm>

namespace weightstream {

bool OpenConnections::IsOpen(const Connection& connection) {
  struct stat info {};
  // The number may be another file's by now, and then is another inode.
  return ::fstat(connection.fd, &info) == 0 && info.st_dev == connection.device && info.st_ino == connection.inode;
}

void OpenConnections::Sweep() {
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [](const Connection& connection) { return !IsOpen(connection); }),
                     connections_.end());
  of_peer_.clear();
  for (const Connection& connection : connections_) ++of_peer_[connection.peer];
}

OpenConnections::Verdict OpenConnections::Judge(const std::string& peer) {
  const auto count = [&] {
    const auto found = of_peer_.find(peer);
    return found == of_peer_.end() ? 0 : found->second;
  };
  if (connections_.size() >= bounds_.most || count() >= bounds_.most_per_peer) Sweep();
  if (count() >= bounds_.most_per_peer) return Verdict::kTooManyOfPeer;
  return connections_.size() >= bounds_.most ? Verdict::kTooMany : Verdict::kWelcome;
}

void OpenConnections::Add(int fd, const std::string& peer) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return;
  connections_.push_back({fd, info.st_dev, info.st_ino, peer});
  ++of_peer_[peer];
}

size_t OpenConnections::size() {
  Sweep();
  return connections_.size();
}

}  // namespace weightstream
