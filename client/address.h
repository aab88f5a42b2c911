// The one reader of addresses, as users write them and as gRPC takes them.
//
//   HOST:PORT            a name or an IPv4 address; one server
//   [V6]:PORT            an IPv6 address
//   unix:PATH            a unix socket; unix:///PATH is the same as unix:/PATH
//   dns:///NAME:PORT     a name that may stand for several servers; dns:NAME:PORT is the same
//   dns://RESOLVER/NAME:PORT
//
// Only the form is read: nothing is looked up. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_ADDRESS_H_
#define WEIGHTSTREAM_CLIENT_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

struct Address {
  enum class Kind { kHost, kDns, kUnix };
  Kind kind = Kind::kHost;
  // Without the brackets of [V6]; empty for kUnix.
  std::string host{};
  // 1 to 65535; 0 for kUnix.
  uint16_t port = 0;
  // Of kDns: who is to be asked for the name. Mostly empty: whom the system asks.
  std::string resolver{};
  // Of kUnix.
  std::string path{};
};

// INVALID_ARGUMENT quotes the text and says which forms there are.
absl::StatusOr<Address> ParseAddress(absl::string_view text);

// A unix socket or a loopback address, behind which a server on this machine is likely: it may also be a forwarded port
// (kubectl port-forward, ssh -L). Of other names it is not known.
bool IsLocalAddress(const Address& address);

// "10.0.0.5:7070", "[2001:db8::5]:7070".
std::string HostAndPort(absl::string_view host, uint16_t port);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_ADDRESS_H_
