#include "server/listen_error.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/host_port.h"

namespace weightstream {
namespace {

absl::Status Describe(const std::string& address, int error) {
  const std::string prefix = absl::StrCat("cannot listen on ", address, ": ");
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(
        absl::StrCat(prefix, "the address is in use; stop what uses it or choose another with --listen"));
  }
  if (error == 0)
    return absl::UnavailableError(absl::StrCat(prefix, "it could not be bound, and could a moment later; try again"));
  return absl::ErrnoToStatus(error, absl::StrCat(prefix, "choose another address with --listen"));
}

// errno of a bind by hand, 0 if it works.
int TryBind(const sockaddr* address, socklen_t length) {
  const int fd = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const absl::Cleanup close = [fd] { ::close(fd); };
  return ::bind(fd, address, length) == 0 ? 0 : errno;
}

std::string UnixPath(const std::string& address) { return std::string(absl::StripPrefix(address, "unix:")); }

// Requires a path that fits.
sockaddr_un UnixName(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  return name;
}

absl::Status CheckUnixPath(const std::string& address) {
  const std::string path = UnixPath(address);
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", address, ": the path is empty or longer than ",
                                                   sizeof(sockaddr_un::sun_path) - 1,
                                                   " bytes; choose another one with --listen"));
  }
  const sockaddr_un name = UnixName(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::OkStatus();
  const absl::Cleanup close = [fd] { ::close(fd); };
  // A file that nobody answers at was left by a process that died, and may be replaced.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) return Describe(address, EADDRINUSE);
  return absl::OkStatus();
}

absl::Status UnixError(const std::string& address) {
  const std::string path = UnixPath(address);
  const sockaddr_un name = UnixName(path);
  const int error = TryBind(reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  if (error == 0) ::unlink(path.c_str());
  return Describe(address, error);
}

}  // namespace

absl::Status CheckListenAddress(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return CheckUnixPath(address);
  if (!ParseHostPort(address).has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot listen on '", address, "': it is not of the form HOST:PORT, [V6]:PORT or unix:/PATH; see --listen"));
  }
  return absl::OkStatus();
}

absl::Status ListenError(const std::string& address) {
  if (absl::Status checked = CheckListenAddress(address); !checked.ok()) return checked;
  if (absl::StartsWith(address, "unix:")) return UnixError(address);
  // Checked above.
  const HostPort parsed = *ParseHostPort(address);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(parsed.host.c_str(), absl::StrCat(parsed.port).c_str(), &hints, &found);
  if (failed != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on ", address, ": ", ::gai_strerror(failed), "; see --listen"));
  }
  const absl::Cleanup release = [found] { ::freeaddrinfo(found); };
  return Describe(address, TryBind(found->ai_addr, found->ai_addrlen));
}

}  // namespace weightstream
