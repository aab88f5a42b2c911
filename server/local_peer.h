// Whether a caller is on this machine: device memory is handed out and taken in between its processes only.
#ifndef WEIGHTSTREAM_SERVER_LOCAL_PEER_H_
#define WEIGHTSTREAM_SERVER_LOCAL_PEER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Of a peer as gRPC names it: true for unix sockets and the loopback addresses. What comes through a proxy on this
// machine looks local too: see docs/security.md. Pure.
bool IsLocalPeer(absl::string_view peer);

// PERMISSION_DENIED, with what to do, for a call of `method` that does not come from this machine.
absl::Status CheckLocalPeer(const std::string& peer, absl::string_view method);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LOCAL_PEER_H_
