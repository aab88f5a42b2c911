// The calls of the service that are about the state of models, one server each. Every call has a deadline.
//
// A server that cannot be reached is UNAVAILABLE at once: these commands are asked by people and by loops, which would
// rather know. Thread-safe.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_MODEL_SERVICE_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_MODEL_SERVICE_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/client_credentials.h"
#include "client/connection.h"
#include "client/security.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream::command {

class ModelService {
 public:
  // Requires a valid address. `cancelled` is asked several times a second while a call runs; once it says true the call
  // ends with CANCELLED.
  // Files of `security` that are not sound are the error of every call.
  ModelService(const std::string& server, const TimeLimits& limits, const Security& security,
               std::function<bool()> cancelled);

  const std::string& server() const { return server_; }

  // Every model, by name, and the server's device.
  absl::StatusOr<v1::ListModelsResponse> List();
  absl::StatusOr<v1::Model> Get(const std::string& model);
  absl::StatusOr<v1::RollbackModelResponse> Rollback(const std::string& model, uint64_t version);

  // Hands each state to `take`, until it returns false (OK) or the stream ends (its error; a server that shuts down is
  // UNAVAILABLE).
  absl::Status Watch(const std::string& model, const std::function<bool(const v1::Model&)>& take);

 private:
  const std::string server_;
  const TimeLimits limits_;
  const std::function<bool()> cancelled_;
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::WeightStream::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                               Response*),
                                const Request& request);
  // Names a handshake that failed.
  absl::Status Explained(const grpc::Status& status);

  const absl::StatusOr<std::shared_ptr<const ClientCredentials>> credentials_;
  // Null without credentials.
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WeightStream::Stub> stub_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_MODEL_SERVICE_H_
