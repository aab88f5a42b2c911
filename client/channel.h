// gRPC channels as Weightstream wants them. Internal to the client: it has gRPC types.
#ifndef WEIGHTSTREAM_CLIENT_CHANNEL_H_
#define WEIGHTSTREAM_CLIENT_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "client/client_credentials.h"
#include "client/connection.h"

namespace weightstream {

// A channel with a TCP connection of its own, made on the first call. `index` tells the channels to one address apart.
// Requires a valid address (ValidateAddress); one that does not resolve makes calls fail with UNAVAILABLE.
// TLS and a token as the credentials say.
//
// The server must allow keepalive pings at the rate of limits.keepalive_time, also without calls.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address, const TimeLimits& limits, int index,
                                          const std::shared_ptr<const ClientCredentials>& credentials);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_CHANNEL_H_
