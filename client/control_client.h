// The calls to one server that carry no payload: bounded by a deadline and ended by a stop. Internal: it has gRPC
// types.
#ifndef WEIGHTSTREAM_CLIENT_CONTROL_CLIENT_H_
#define WEIGHTSTREAM_CLIENT_CONTROL_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client_credentials.h"
#include "client/connection.h"
#include "client/failure_rules.h"
#include "client/retry_budget.h"
#include "client/stop_signal.h"
#include "tensor/monotonic_clock.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {

// On a connection of its own, so that it works while the others are jammed. Thread-safe. Every call returns the
// signal's cause if that ended it, DEADLINE_EXCEEDED past its time, UNAUTHENTICATED with the cause where the TLS
// handshake fails, or what the server said.
class ControlClient {
 public:
  // Requires a valid address. `traceparent` goes with each call, where it is not empty.
  ControlClient(std::string address, const TimeLimits& limits, std::shared_ptr<const ClientCredentials> credentials,
                StopSignal& stop, std::string traceparent = "");

  // `request` as EncodeBeginRequest makes it.
  absl::StatusOr<v1::BeginUpdateResponse> BeginUpdate(const grpc::ByteBuffer& request);
  // `model_bytes` sizes the deadline: a commit may write them.
  absl::StatusOr<v1::CommitUpdateResponse> CommitUpdate(const v1::CommitUpdateRequest& request, uint64_t model_bytes);
  absl::StatusOr<v1::Model> GetModel(const v1::GetModelRequest& request);
  absl::StatusOr<v1::Manifest> GetManifest(const v1::GetManifestRequest& request);
  // Goes on though the signal has stopped: it is what is done then.
  absl::Status AbortUpdate(const v1::AbortUpdateRequest& request, absl::Duration limit);

  // How long the server takes to answer when it has nothing to do: the least of several calls, or the first that takes
  // less than `short_enough`. Zero if it does not answer.
  absl::Duration RoundTrip(const std::string& model, absl::Duration short_enough);

  // Waits until the connection stands; false if it does not within `limit`, or after a stop.
  bool WaitUntilConnected(absl::Duration limit);

  v1::WeightStream::Stub& stub() { return *stub_; }
  grpc::Channel& channel() { return *channel_; }
  StopSignal& stop() { return stop_; }
  const std::string& traceparent() const { return traceparent_; }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::WeightStream::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                               Response*),
                                const Request& request, absl::Duration limit);

  // `make` makes the call: grpc::Status(grpc::ClientContext&, Response&).
  template <typename Response, typename Make>
  absl::StatusOr<Response> CallWith(absl::Duration limit, const Make& make);

  // Before the call.
  void Prepare(grpc::ClientContext& context, absl::Duration limit) const;

  const std::string address_;
  const TimeLimits limits_;
  const std::shared_ptr<const ClientCredentials> credentials_;
  StopSignal& stop_;
  const std::string traceparent_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WeightStream::Stub> stub_;
};

// Makes `call` until it is answered, with success or an error that a repetition would not change, or until the budget
// for an outage is used up. `on_retry` is told of each repetition.
template <typename Response>
absl::StatusOr<Response> CallUntilAnswered(ControlClient& control, CallKind kind, RetryBudget& budget,
                                           const std::function<absl::StatusOr<Response>()>& call,
                                           const std::function<void()>& on_retry) {
  for (;;) {
    const absl::Duration began = MonotonicNow();
    absl::StatusOr<Response> response = call();
    if (control.stop().stopped()) return control.stop().cause();
    if (response.ok() || RemedyFor(kind, response.status()) != Remedy::kRetry) {
      budget.Answered();
      return response;
    }
    const absl::StatusOr<absl::Duration> wait = budget.NoAnswer(began, response.status());
    if (!wait.ok()) return wait.status();
    on_retry();
    if (control.stop().WaitFor(*wait)) return control.stop().cause();
    if (!control.WaitUntilConnected(budget.OutageLeft())) {
      return control.stop().stopped() ? control.stop().cause() : budget.Unreachable(response.status());
    }
  }
}

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_CONTROL_CLIENT_H_
