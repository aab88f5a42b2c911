#include "server/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace weightstream {
namespace {

constexpr char kLocal[] = "local";
// Of an IPv6 address: what a network has of its own. The rest a host may choose, and change.
constexpr size_t kNetworkBytes = 8;

std::string TextOf(int family, const void* address) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(family, address, text, sizeof(text)) == nullptr ? kLocal : text;
}

std::string TextOf(in6_addr address) {
  // The last four bytes of ::ffff:a.b.c.d.
  if (IN6_IS_ADDR_V4MAPPED(&address)) return TextOf(AF_INET, &address.s6_addr[12]);
  if (IN6_IS_ADDR_LOOPBACK(&address)) return TextOf(AF_INET6, &address);
  std::fill(address.s6_addr + kNetworkBytes, address.s6_addr + sizeof(address.s6_addr), 0);
  return absl::StrCat(TextOf(AF_INET6, &address), "/", 8 * kNetworkBytes);
}

}  // namespace

std::string PeerOf(absl::string_view grpc_peer) {
  if (absl::StartsWith(grpc_peer, "unix")) return kLocal;
  absl::string_view host = grpc_peer.substr(0, grpc_peer.rfind(':'));
  host.remove_prefix(host.find(':') == absl::string_view::npos ? 0 : host.find(':') + 1);
  // gRPC writes the brackets of [V6] as in a URI.
  host = absl::StripSuffix(absl::StripPrefix(host, "%5B"), "%5D");
  host = absl::StripSuffix(absl::StripPrefix(host, "["), "]");
  // Without the interface of fe80::1%eth0.
  const std::string plain(host.substr(0, host.find('%')));
  in6_addr v6{};
  return ::inet_pton(AF_INET6, plain.c_str(), &v6) == 1 ? TextOf(v6) : plain;
}

std::string PeerOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return TextOf(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr);
  if (address.ss_family != AF_INET6) return kLocal;
  return TextOf(reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

}  // namespace weightstream
