#include "server/local_peer.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/exposure.h"

namespace weightstream {

bool IsLocalPeer(absl::string_view peer) {
  if (absl::StartsWith(peer, "unix:") || absl::StartsWith(peer, "unix-abstract:")) return true;
  if (absl::ConsumePrefix(&peer, "ipv4:")) return IsLoopback(peer);
  if (!absl::ConsumePrefix(&peer, "ipv6:")) return false;
  // gRPC writes it as a part of a URI.
  return IsLoopback(absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}}));
}

absl::Status CheckLocalPeer(const std::string& peer, absl::string_view method) {
  if (IsLocalPeer(peer)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(method, " shares device memory between processes of one machine, and the call comes from ", peer,
                   "; make it from the server's own host, over a unix socket or loopback"));
}

}  // namespace weightstream
