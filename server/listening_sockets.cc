#include "server/listening_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/host_port.h"
#include "server/listen_error.h"
#include "server/server_security.h"

namespace weightstream {
namespace {

constexpr absl::string_view kUnixPrefix = "unix:";
// The kernel takes no more than net.core.somaxconn.
constexpr int kBacklog = std::numeric_limits<int>::max();

FileDescriptor NewSocket(int family) {
  return FileDescriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

bool Set(const FileDescriptor& socket, int level, int option, int value) {
  return ::setsockopt(socket.get(), level, option, &value, sizeof(value)) == 0;
}

uint16_t PortOf(const FileDescriptor& socket) {
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

// Connections inherit the options. Not SO_REUSEPORT: a stale process must not share the port.
FileDescriptor ListenTcp(const sockaddr* address, socklen_t length, bool dual_stack, absl::Duration unacknowledged) {
  FileDescriptor socket = NewSocket(address->sa_family);
  const bool ready =
      socket.valid() && Set(socket, SOL_SOCKET, SO_REUSEADDR, 1) && Set(socket, IPPROTO_TCP, TCP_NODELAY, 1) &&
      Set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(absl::ToInt64Milliseconds(unacknowledged))) &&
      (address->sa_family != AF_INET6 || Set(socket, IPPROTO_IPV6, IPV6_V6ONLY, dual_stack ? 0 : 1)) &&
      ::bind(socket.get(), address, length) == 0 && ::listen(socket.get(), kBacklog) == 0;
  return ready ? std::move(socket) : FileDescriptor();
}

bool IsWildcard(const std::string& host) { return host.empty() || host == "0.0.0.0" || host == "::"; }

}  // namespace

absl::StatusOr<std::unique_ptr<ListeningSockets>> ListeningSockets::Open(const std::string& address,
                                                                         absl::Duration unacknowledged) {
  std::unique_ptr<ListeningSockets> sockets(new ListeningSockets(address));
  absl::Status opened = absl::StartsWith(address, kUnixPrefix) ? sockets->OpenUnix() : sockets->OpenTcp(unacknowledged);
  if (!opened.ok()) return opened;
  return sockets;
}

absl::Status ListeningSockets::OpenUnix() {
  const std::string path(absl::StripPrefix(address_, kUnixPrefix));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  // Nobody answers there, or CheckListenAddress would have said so: it was left by a process that died.
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
  FileDescriptor socket = NewSocket(AF_UNIX);
  if (!socket.valid()) return ListenError(address_);
  {
    const UnixSocketMask mask;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) return ListenError(address_);
  }
  path_ = path;
  if (::lstat(path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
  if (absl::Status restricted = RestrictUnixSocket(address_); !restricted.ok()) return restricted;
  if (::listen(socket.get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", address_));
  }
  sockets_.push_back(std::move(socket));
  return absl::OkStatus();
}

absl::Status ListeningSockets::OpenTcp(absl::Duration unacknowledged) {
  const absl::optional<HostPort> parsed = ParseHostPort(address_);
  if (!parsed.has_value()) return ListenError(address_);
  auto port = static_cast<uint16_t>(parsed->port);
  const auto add = [&](const sockaddr* at, socklen_t length, bool dual_stack) {
    FileDescriptor socket = ListenTcp(at, length, dual_stack, unacknowledged);
    if (!socket.valid()) return;
    // The first to be bound chooses, the others follow.
    port = PortOf(socket);
    sockets_.push_back(std::move(socket));
  };
  if (IsWildcard(parsed->host)) {
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(port);
    add(reinterpret_cast<const sockaddr*>(&any), sizeof(any), true);
    if (sockets_.empty()) {
      sockaddr_in any4{};
      any4.sin_family = AF_INET;
      any4.sin_port = htons(port);
      add(reinterpret_cast<const sockaddr*>(&any4), sizeof(any4), false);
    }
  } else {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (::getaddrinfo(parsed->host.c_str(), nullptr, &hints, &found) != 0) return ListenError(address_);
    const absl::Cleanup release = [found] { ::freeaddrinfo(found); };
    for (addrinfo* each = found; each != nullptr; each = each->ai_next) {
      if (each->ai_family == AF_INET) reinterpret_cast<sockaddr_in*>(each->ai_addr)->sin_port = htons(port);
      if (each->ai_family == AF_INET6) reinterpret_cast<sockaddr_in6*>(each->ai_addr)->sin6_port = htons(port);
      add(each->ai_addr, each->ai_addrlen, false);
    }
  }
  if (sockets_.empty()) return ListenError(address_);
  address_ = absl::StrCat(address_.substr(0, address_.rfind(':')), ":", port);
  return absl::OkStatus();
}

ListeningSockets::~ListeningSockets() {
  struct stat info {};
  // Another server may have taken the path over.
  if (!path_.empty() && ::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_)
    ::unlink(path_.c_str());
}

}  // namespace weightstream
