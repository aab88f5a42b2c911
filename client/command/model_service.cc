#include "client/command/model_service.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/channel.h"
#include "client/handshake_probe.h"
#include "proto/status.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream::command {
namespace {

// How soon a cancellation takes hold.
constexpr absl::Duration kCancelInterval = absl::Milliseconds(50);

// Cancels a blocking call from beside it once asked to; a blocked call cannot look itself.
class CancelWatch {
 public:
  CancelWatch(grpc::ClientContext& context, const std::function<bool()>& cancelled)
      : thread_([this, &context, &cancelled] {
          while (!Done()) {
            if (!cancelled()) continue;
            context.TryCancel();
            return;
          }
        }) {}
  ~CancelWatch() {
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }

 private:
  // Waits for a while.
  bool Done() {
    absl::MutexLock lock(&mutex_);
    return changed_.AwaitFor(mutex_, kCancelInterval, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; });
  }

  absl::Mutex mutex_;
  MonotonicCondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

absl::StatusOr<std::shared_ptr<const ClientCredentials>> CredentialsFor(const std::string& server,
                                                                        const Security& security) {
  if (absl::Status valid = ValidateSecurity(security, server); !valid.ok()) return valid;
  return ClientCredentials::Load(security);
}

}  // namespace

ModelService::ModelService(const std::string& server, const TimeLimits& limits, const Security& security,
                           std::function<bool()> cancelled)
    : server_(server),
      limits_(limits),
      cancelled_(std::move(cancelled)),
      credentials_(CredentialsFor(server, security)),
      channel_(credentials_.ok() ? NewChannel(server, limits, 0, *credentials_) : nullptr),
      stub_(channel_ != nullptr ? v1::WeightStream::NewStub(channel_) : nullptr) {}

absl::Status ModelService::Explained(const grpc::Status& status) {
  return ExplainFailure(FromGrpcStatus(status), *channel_, server_, **credentials_);
}

template <typename Request, typename Response>
absl::StatusOr<Response> ModelService::Call(grpc::Status (v1::WeightStream::Stub::*method)(grpc::ClientContext*,
                                                                                           const Request&, Response*),
                                            const Request& request) {
  if (!credentials_.ok()) return credentials_.status();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(limits_.call));
  CancelWatch watch(context, cancelled_);
  Response response;
  const absl::Status status = Explained((*stub_.*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::ListModelsResponse> ModelService::List() {
  return Call(&v1::WeightStream::Stub::ListModels, v1::ListModelsRequest());
}

absl::StatusOr<v1::Model> ModelService::Get(const std::string& model) {
  v1::GetModelRequest request;
  request.set_model(model);
  return Call(&v1::WeightStream::Stub::GetModel, request);
}

absl::StatusOr<v1::RollbackModelResponse> ModelService::Rollback(const std::string& model, uint64_t version) {
  v1::RollbackModelRequest request;
  request.set_model(model);
  request.set_version(version);
  return Call(&v1::WeightStream::Stub::RollbackModel, request);
}

absl::Status ModelService::Watch(const std::string& model, const std::function<bool(const v1::Model&)>& take) {
  if (!credentials_.ok()) return credentials_.status();
  // No deadline: a watch is as long as it is wanted. Keepalive finds out a dead server, CancelWatch ends it for the
  // user.
  grpc::ClientContext context;
  CancelWatch watch(context, cancelled_);
  v1::WatchModelRequest request;
  request.set_model(model);
  const auto stream = stub_->WatchModel(&context, request);
  v1::Model state;
  bool wanted = true;
  while (wanted && stream->Read(&state)) wanted = take(state);
  if (!wanted) context.TryCancel();
  const absl::Status status = Explained(stream->Finish());
  if (!wanted) return absl::OkStatus();
  if (status.ok()) return absl::UnavailableError("the server ended the watch; it is shutting down");
  return status;
}

}  // namespace weightstream::command
