#include "server/reflection_calls.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/interceptor.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"

namespace weightstream {
namespace {

// Of any version of it.
constexpr char kReflection[] = "/grpc.reflection.";

// Lives as long as its call.
class BoundedCall final : public grpc::experimental::Interceptor {
 public:
  BoundedCall(OpenCalls& calls, grpc::ServerContext* context) : calls_(calls), context_(context) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    // The first time, and not at its creation, when the call has no peer yet.
    if (!std::exchange(entered_, true)) Enter();
    // With each message the peer has as long again.
    if (call_ != nullptr &&
        methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::POST_RECV_MESSAGE)) {
      call_->AwaitPeer();
    }
    methods->Proceed();
  }

 private:
  void Enter() {
    absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call = calls_.Enter(context_, "ServerReflectionInfo");
    if (!call.ok()) {
      CutCall(context_, call.status());
      return;
    }
    call_ = *std::move(call);
    call_->AwaitPeer();
  }

  OpenCalls& calls_;
  grpc::ServerContext* const context_;
  bool entered_ = false;
  // Null for one that was refused.
  std::unique_ptr<OpenCalls::Call> call_;
};

class ReflectionBounds final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit ReflectionBounds(OpenCalls& calls) : calls_(calls) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    if (!absl::StartsWith(info->method(), kReflection)) return nullptr;
    return new BoundedCall(calls_, static_cast<grpc::ServerContext*>(info->server_context()));
  }

 private:
  OpenCalls& calls_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewReflectionBounds(OpenCalls& calls) {
  return std::make_unique<ReflectionBounds>(calls);
}

}  // namespace weightstream
