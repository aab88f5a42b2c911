#include "client/probe_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/address.h"

namespace weightstream {
namespace {

bool AwaitConnected(int fd, absl::Duration limit) {
  pollfd waiting{.fd = fd, .events = POLLOUT, .revents = 0};
  if (::poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(limit))) != 1) return false;
  int error = 0;
  socklen_t size = sizeof(error);
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

bool Prepare(int fd, absl::Duration limit) {
  const timeval timeout = absl::ToTimeval(limit);
  const int flags = ::fcntl(fd, F_GETFL);
  return ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 &&
         ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
         ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0;
}

int ConnectTo(const sockaddr* name, socklen_t length, absl::Duration limit) {
  const int fd = ::socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const bool connected = ::connect(fd, name, length) == 0 || (errno == EINPROGRESS && AwaitConnected(fd, limit));
  if (connected && Prepare(fd, limit)) return fd;
  ::close(fd);
  return -1;
}

int ConnectUnix(absl::string_view path, absl::Duration limit) {
  sockaddr_un name{};
  if (path.size() >= sizeof(name.sun_path)) return -1;
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  return ConnectTo(reinterpret_cast<const sockaddr*>(&name), sizeof(name), limit);
}

}  // namespace

std::string HostOf(absl::string_view address) {
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  return !parsed.ok() || parsed->kind == Address::Kind::kUnix ? "localhost" : parsed->host;
}

int ConnectSocket(const std::string& address, absl::Duration limit) {
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) return -1;
  if (parsed->kind == Address::Kind::kUnix) return ConnectUnix(parsed->path, limit);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(parsed->host.c_str(), absl::StrCat(parsed->port).c_str(), &hints, &found) != 0) return -1;
  const absl::Cleanup release = [found] { ::freeaddrinfo(found); };
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int fd = ConnectTo(one->ai_addr, one->ai_addrlen, limit);
    if (fd >= 0) return fd;
  }
  return -1;
}

}  // namespace weightstream
