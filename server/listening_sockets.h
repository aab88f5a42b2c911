// The sockets that the server listens on. gRPC would bind them itself; the server does, so that it can look at each
// connection before gRPC spends anything on it (connection_gate.h).
#ifndef WEIGHTSTREAM_SERVER_LISTENING_SOCKETS_H_
#define WEIGHTSTREAM_SERVER_LISTENING_SOCKETS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

// Listens from its creation to its end; then a unix socket's file is removed, if it is still this one's.
class ListeningSockets {
 public:
  // `address` is as ServerOptions::listen, and was checked (CheckListenAddress). A name listens on all its addresses
  // that can be had, a wildcard on IPv6 and IPv4. A unix socket gets the mode 0660 before anybody can connect. Bytes
  // that a peer does not acknowledge for `unacknowledged` end a TCP connection. Errors as ListenError.
  static absl::StatusOr<std::unique_ptr<ListeningSockets>> Open(const std::string& address,
                                                                absl::Duration unacknowledged);

  ~ListeningSockets();
  ListeningSockets(const ListeningSockets&) = delete;
  ListeningSockets& operator=(const ListeningSockets&) = delete;

  // Not blocking.
  const std::vector<FileDescriptor>& sockets() const { return sockets_; }
  // With the real port, once it listens.
  const std::string& address() const { return address_; }

 private:
  explicit ListeningSockets(const std::string& address) : address_(address) {}

  absl::Status OpenUnix();
  absl::Status OpenTcp(absl::Duration unacknowledged);

  std::vector<FileDescriptor> sockets_;
  std::string address_;
  // Of a unix socket, to know it again; empty for TCP.
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LISTENING_SOCKETS_H_
