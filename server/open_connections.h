// The connections that gRPC has: whose they are, and how many.
//
// gRPC 1.51 closes a connection's descriptor and tells nobody. So what is remembered of each is which socket the
// descriptor was, and whether it still is that one is asked when the count matters: when a limit seems to be reached.
#ifndef WEIGHTSTREAM_SERVER_OPEN_CONNECTIONS_H_
#define WEIGHTSTREAM_SERVER_OPEN_CONNECTIONS_H_

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace weightstream {

// Not thread-safe.
class OpenConnections {
 public:
  struct Bounds {
    // Connections at once: of all peers, and of each.
    size_t most = 0;
    size_t most_per_peer = 0;
  };

  explicit OpenConnections(const Bounds& bounds) : bounds_(bounds) {}

  // Whether there may be one more of this peer; else which bound says no.
  enum class Verdict { kWelcome, kTooMany, kTooManyOfPeer };
  Verdict Judge(const std::string& peer);

  // Counts this open socket, for as long as it is open.
  void Add(int fd, const std::string& peer);

  // After a look at each.
  size_t size();

 private:
  struct Connection {
    int fd = -1;
    dev_t device = 0;
    ino_t inode = 0;
    std::string peer;
  };

  static bool IsOpen(const Connection& connection);
  // Forgets those that are closed.
  void Sweep();

  const Bounds bounds_;
  std::vector<Connection> connections_;
  std::map<std::string, size_t> of_peer_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_OPEN_CONNECTIONS_H_
