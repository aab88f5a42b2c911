// Who is at the other end, as far as limits are concerned: one host.
//
// A peer is an IPv4 address, whatever the port, or the first 64 bits of an IPv6 address, since a host has all of the
// others to choose from; all clients of a unix socket are one peer, "local". Not the certificate
// or the token: limits must hold before anybody is known, a token is often shared by all ranks of a trainer, and one
// notion for connections, streams and rate is one that an operator can reckon with. A proxy in front of many clients is
// one peer too: raise the limits there (docs/limits.md).
#ifndef WEIGHTSTREAM_SERVER_PEER_H_
#define WEIGHTSTREAM_SERVER_PEER_H_

#include <sys/socket.h>

#include <string>

#include "absl/strings/string_view.h"

namespace weightstream {

// Of what grpc::ServerContext::peer() says: "10.0.0.7", "2001:db8::/64", "::1" (which is one host), "local". Pure, any
// thread.
std::string PeerOf(absl::string_view grpc_peer);

// The same of a socket's other end. IPv4 in IPv6 is IPv4.
std::string PeerOf(const sockaddr_storage& address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_PEER_H_
