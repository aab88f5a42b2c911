// How many descriptors the process may have open: a connection takes one, and so do files and sockets of its own.
#ifndef WEIGHTSTREAM_SERVER_DESCRIPTOR_LIMIT_H_
#define WEIGHTSTREAM_SERVER_DESCRIPTOR_LIMIT_H_

#include <cstdint>

namespace weightstream {

struct DescriptorBudget {
  // Connections that gRPC may have, and those that may wait to say their first bytes.
  uint64_t connections = 0;
  uint64_t waiting = 0;
};

// Raises the process's soft limit (RLIMIT_NOFILE, often 1024) to what so many connections need, as far as its hard one
// allows. Never lowers it. Where that is not enough the log says so, and the budget is smaller: connections must not
// take what files need.
DescriptorBudget AllowConnections(uint64_t connections);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_DESCRIPTOR_LIMIT_H_
