// Finds out why a connection does not come about where TLS is the reason: gRPC says of every such failure that no
// connection could be made. Internal: it has gRPC types.
#ifndef WEIGHTSTREAM_CLIENT_HANDSHAKE_PROBE_H_
#define WEIGHTSTREAM_CLIENT_HANDSHAKE_PROBE_H_

#include <grpcpp/channel.h>

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client_credentials.h"

namespace weightstream {

// Connects to `address` (HOST:PORT, unix: or dns:) once more by hand and shakes hands as the credentials say; with
// plaintext ones, looks whether the server speaks TLS. UNAUTHENTICATED with the cause and the remedy if the handshake
// is what fails; OK if it works, or if there is no telling. Takes some milliseconds, twice `limit` at most and the time
// to resolve a name.
absl::Status ProbeHandshake(const std::string& address, const ClientCredentials& credentials, absl::Duration limit);

// `failure` of a call on `channel`; or, where a connection was missing and the probe knows why, its answer, which is
// final: trying again would not change it.
absl::Status ExplainFailure(const absl::Status& failure, grpc::Channel& channel, const std::string& address,
                            const ClientCredentials& credentials);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_HANDSHAKE_PROBE_H_
