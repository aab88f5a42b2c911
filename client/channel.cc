#include "client/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "client/defaults.h"
#include "client/token_interceptor.h"

namespace weightstream {
namespace {

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(duration), 1, INT32_MAX));
}

// One attempt to connect: a third of the limit, so that an address that swallows packets is tried more than once.
absl::Duration ConnectAttempt(const TimeLimits& limits) {
  return std::clamp(limits.connect / 3, absl::Milliseconds(100), absl::Seconds(10));
}

grpc::ChannelArguments Arguments(const TimeLimits& limits, int index) {
  grpc::ChannelArguments arguments;
  // Channels with equal arguments share one TCP connection, unless each has its own pool of them.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt("weightstream.connection", index);

  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_time));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);

  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  arguments.SetMaxSendMessageSize(-1);

  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Despite its name, how long one attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, Milliseconds(ConnectAttempt(limits)));
  // The default of 30 s would make a name that did not resolve at first fail for the whole of the connect limit.
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000);

  // The client repeats calls itself: it knows which are safe to repeat, and what a stream has already delivered.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // Weights go to the address that was given, not by way of whatever http_proxy says.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address, const TimeLimits& limits, int index,
                                          const std::shared_ptr<const ClientCredentials>& credentials) {
  grpc::ChannelArguments arguments = Arguments(limits, index);
  if (const std::string name = credentials->ServerNameFor(address); credentials->tls() && !name.empty()) {
    arguments.SetSslTargetNameOverride(name);
  }
  if (!credentials->has_token()) return grpc::CreateCustomChannel(address, credentials->ForChannel(), arguments);
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<TokenInterceptorFactory>(credentials));
  return grpc::experimental::CreateCustomChannelWithInterceptors(address, credentials->ForChannel(), arguments,
                                                                 std::move(interceptors));
}

}  // namespace weightstream
