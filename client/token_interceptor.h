// Sends a token with every call of a channel: in one place, so that no call can be made without it. Internal: it has
// gRPC types.
#ifndef WEIGHTSTREAM_CLIENT_TOKEN_INTERCEPTOR_H_
#define WEIGHTSTREAM_CLIENT_TOKEN_INTERCEPTOR_H_

#include <grpcpp/support/client_interceptor.h>

#include <memory>

#include "client/client_credentials.h"

namespace weightstream {

// Not gRPC's call credentials: those refuse every connection without TLS, also a unix socket.
class TokenInterceptorFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  // Requires credentials->has_token().
  explicit TokenInterceptorFactory(std::shared_ptr<const ClientCredentials> credentials)
      : credentials_(std::move(credentials)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo* info) override;

 private:
  const std::shared_ptr<const ClientCredentials> credentials_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_TOKEN_INTERCEPTOR_H_
