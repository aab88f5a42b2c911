#include "client/token_interceptor.h"

#include <string>
#include <utility>

namespace weightstream {
namespace {

class TokenInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit TokenInterceptor(std::string token) : token_(std::move(token)) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", "Bearer " + token_});
    }
    methods->Proceed();
  }

 private:
  const std::string token_;
};

}  // namespace

grpc::experimental::Interceptor* TokenInterceptorFactory::CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) {
  return new TokenInterceptor(credentials_->token());
}

}  // namespace weightstream
