#include "client/control_client.h"

#include <algorithm>
#include <utility>

#include "client/channel.h"
#include "client/defaults.h"
#include "client/grpc_deadline.h"
#include "client/handshake_probe.h"
#include "client/raw_stream.h"
#include "proto/status.h"
#include "proto/trace_context.h"

namespace weightstream {
namespace {

constexpr int kControlChannel = -1;

}  // namespace

ControlClient::ControlClient(std::string address, const TimeLimits& limits,
                             std::shared_ptr<const ClientCredentials> credentials, StopSignal& stop,
                             std::string traceparent)
    : address_(std::move(address)),
      limits_(limits),
      credentials_(std::move(credentials)),
      stop_(stop),
      traceparent_(std::move(traceparent)),
      channel_(NewChannel(address_, limits, kControlChannel, credentials_)),
      stub_(v1::WeightStream::NewStub(channel_)) {}

void ControlClient::Prepare(grpc::ClientContext& context, absl::Duration limit) const {
  SetDeadline(context, limit);
  if (!traceparent_.empty()) context.AddMetadata(kTraceparent, traceparent_);
}

template <typename Response, typename Make>
absl::StatusOr<Response> ControlClient::CallWith(absl::Duration limit, const Make& make) {
  grpc::ClientContext context;
  Prepare(context, limit);
  const StopSignal::Listener cancel_on_stop(stop_, [&context](const absl::Status&) { context.TryCancel(); });
  Response response;
  const grpc::Status status = make(context, response);
  if (status.ok()) return response;
  // What stopped us is the cause, and the cancelled call only its effect.
  if (stop_.stopped()) return stop_.cause();
  return ExplainFailure(FromGrpcStatus(status), *channel_, address_, *credentials_);
}

template <typename Request, typename Response>
absl::StatusOr<Response> ControlClient::Call(grpc::Status (v1::WeightStream::Stub::*method)(grpc::ClientContext*,
                                                                                            const Request&, Response*),
                                             const Request& request, absl::Duration limit) {
  return CallWith<Response>(limit, [&](grpc::ClientContext& context, Response& response) {
    return ((*stub_).*method)(&context, request, &response);
  });
}

absl::StatusOr<v1::BeginUpdateResponse> ControlClient::BeginUpdate(const grpc::ByteBuffer& request) {
  return CallWith<v1::BeginUpdateResponse>(limits_.call,
                                           [&](grpc::ClientContext& context, v1::BeginUpdateResponse& response) {
                                             return CallRawBegin(*channel_, context, request, response);
                                           });
}

absl::StatusOr<v1::CommitUpdateResponse> ControlClient::CommitUpdate(const v1::CommitUpdateRequest& request,
                                                                     uint64_t model_bytes) {
  const double gib = static_cast<double>(model_bytes) / (uint64_t{1} << 30);
  return Call(&v1::WeightStream::Stub::CommitUpdate, request, limits_.call + limits_.per_gib * gib);
}

absl::StatusOr<v1::Model> ControlClient::GetModel(const v1::GetModelRequest& request) {
  return Call(&v1::WeightStream::Stub::GetModel, request, limits_.call);
}

absl::Duration ControlClient::RoundTrip(const std::string& model, absl::Duration short_enough) {
  v1::GetModelRequest request;
  request.set_model(model);
  absl::Duration least = absl::InfiniteDuration();
  // A near server on a busy machine may need several, and each is quick; of a far one, one is enough to know.
  const absl::Duration patience = absl::Milliseconds(40);
  const absl::Duration start = MonotonicNow();
  for (int call = 0; call < 8 && least >= short_enough && MonotonicNow() - start < patience; ++call) {
    const absl::Duration began = MonotonicNow();
    const absl::StatusOr<v1::Model> answer = GetModel(request);
    // That there is no such model is an answer as well.
    if (!answer.ok() && !absl::IsNotFound(answer.status())) return absl::ZeroDuration();
    least = std::min(least, MonotonicNow() - began);
  }
  return least;
}

absl::StatusOr<v1::Manifest> ControlClient::GetManifest(const v1::GetManifestRequest& request) {
  return Call(&v1::WeightStream::Stub::GetManifest, request, limits_.call);
}

absl::Status ControlClient::AbortUpdate(const v1::AbortUpdateRequest& request, absl::Duration limit) {
  grpc::ClientContext context;
  Prepare(context, limit);
  v1::AbortUpdateResponse response;
  return FromGrpcStatus(stub_->AbortUpdate(&context, request, &response));
}

bool ControlClient::WaitUntilConnected(absl::Duration limit) {
  // In slices, since nothing else ends gRPC's wait.
  const absl::Duration slice = absl::Milliseconds(100);
  const absl::Duration end = MonotonicNow() + limit;
  while (!stop_.stopped()) {
    const absl::Duration left = end - MonotonicNow();
    if (left <= absl::ZeroDuration()) return false;
    if (channel_->WaitForConnected(SystemDeadline(std::min(slice, left)))) return true;
  }
  return false;
}

}  // namespace weightstream
