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
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace weightstream {
namespace {

constexpr absl::string_view kUnix = "unix:";

// HOST:PORT of the forms that name a host.
absl::string_view HostAndPort(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "dns:")) return address;
  if (absl::ConsumePrefix(&address, "//")) address.remove_prefix(std::min(address.find('/'), address.size() - 1) + 1);
  return address;
}

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
  if (absl::StartsWith(address, kUnix)) return "localhost";
  absl::string_view host = HostAndPort(address);
  host = host.substr(0, host.rfind(':'));
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return std::string(host);
}

int ConnectSocket(const std::string& address, absl::Duration limit) {
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, kUnix)) return ConnectUnix(rest, limit);
  const absl::string_view host_and_port = HostAndPort(address);
  const std::string port(host_and_port.substr(host_and_port.rfind(':') + 1));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(HostOf(address).c_str(), port.c_str(), &hints, &found) != 0) return -1;
  const absl::Cleanup release = [found] { ::freeaddrinfo(found); };
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int fd = ConnectTo(one->ai_addr, one->ai_addrlen, limit);
    if (fd >= 0) return fd;
  }
  return -1;
}

}  // namespace weightstream
