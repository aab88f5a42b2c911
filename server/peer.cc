#include "server/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace weightstream {
namespace {

constexpr char kLocal[] = "local";

std::string TextOf(int family, const void* address) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(family, address, text, sizeof(text)) == nullptr ? kLocal : text;
}

}  // namespace

std::string PeerOf(absl::string_view grpc_peer) {
  if (absl::StartsWith(grpc_peer, "unix")) return kLocal;
  absl::string_view host = grpc_peer.substr(0, grpc_peer.rfind(':'));
  host.remove_prefix(host.find(':') == absl::string_view::npos ? 0 : host.find(':') + 1);
  // gRPC writes the brackets of [V6] as in a URI.
  host = absl::StripSuffix(absl::StripPrefix(host, "%5B"), "%5D");
  return std::string(absl::StripSuffix(absl::StripPrefix(host, "["), "]"));
}

std::string PeerOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return TextOf(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr);
  if (address.ss_family != AF_INET6) return kLocal;
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  // The last four bytes of ::ffff:a.b.c.d.
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return TextOf(AF_INET, &v6.s6_addr[12]);
  return TextOf(AF_INET6, &v6);
}

}  // namespace weightstream
