// The RPC surface: each call's request checked, given to who does the work, and its answer or error written.
#ifndef WEIGHTSTREAM_SERVER_SERVICE_H_
#define WEIGHTSTREAM_SERVER_SERVICE_H_

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/begin_codec.h"
#include "server/call_environment.h"
#include "server/known_manifests.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// A BeginUpdateRequest, and its manifest where an update of the model began with the same before.
struct ReceivedBegin : BeginRequest {
  std::shared_ptr<const KnownManifest> known = nullptr;
};

// weightstream.v1.WeightStream as a synchronous gRPC service, on the wire the same as the generated one. It is not
// derived from the generated class because Push and Pull exchange chunks as they came off the wire (grpc::ByteBuffer),
// which the generated synchronous service cannot: that is what spares a parse and a copy of every byte. Each call has a
// thread of its own, and may wait on it.
class WeightStreamService final : public grpc::Service {
 public:
  explicit WeightStreamService(CallEnvironment environment);

  // Ends the WatchModel, ExportTarget and RegisterTargets calls that are open, and those that come: at shutdown.
  void StopWatches() { stopping_.store(true, std::memory_order_release); }

 private:
  // `Request` is const where the handler leaves it as it is.
  template <typename Request, typename Response>
  void AddUnary(absl::string_view method,
                absl::Status (WeightStreamService::*handler)(grpc::ServerContext*, Request&, Response*));
  template <typename Request, typename Response>
  void AddServerStream(absl::string_view method,
                       absl::Status (WeightStreamService::*handler)(grpc::ServerContext*, const Request&,
                                                                    grpc::ServerWriter<Response>*));
  void AddPush();
  // Counts the call, and watches over its end, with so many bytes of reply.
  grpc::Status Ended(grpc::ServerContext* context, absl::string_view method, const absl::Status& status,
                     uint64_t reply_bytes) const;

  absl::Status BeginUpdate(grpc::ServerContext* context, ReceivedBegin& request, v1::BeginUpdateResponse* response);
  absl::Status CommitUpdate(grpc::ServerContext* context, const v1::CommitUpdateRequest& request,
                            v1::CommitUpdateResponse* response);
  absl::Status AbortUpdate(grpc::ServerContext* context, const v1::AbortUpdateRequest& request,
                           v1::AbortUpdateResponse* response);
  absl::Status Pull(grpc::ServerContext* context, const v1::PullRequest& request,
                    grpc::ServerWriter<grpc::ByteBuffer>* writer);
  absl::Status GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest& request, v1::Manifest* response);
  absl::Status DigestModel(grpc::ServerContext* context, const v1::DigestModelRequest& request,
                           grpc::ServerWriter<v1::TensorDigest>* writer);
  absl::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest& request, v1::Model* response);
  absl::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest& request,
                          v1::ListModelsResponse* response);
  absl::Status WatchModel(grpc::ServerContext* context, const v1::WatchModelRequest& request,
                          grpc::ServerWriter<v1::Model>* writer);
  absl::Status RollbackModel(grpc::ServerContext* context, const v1::RollbackModelRequest& request,
                             v1::RollbackModelResponse* response);

  absl::Status ExportTarget(grpc::ServerContext* context, const v1::ExportTargetRequest& request,
                            grpc::ServerWriter<v1::ExportedTarget>* writer);
  absl::Status RegisterTargets(grpc::ServerContext* context, const v1::RegisterTargetsRequest& request,
                               grpc::ServerWriter<v1::TargetsState>* writer);

  // Parses a request of a caller who may make it. INVALID_ARGUMENT for bytes that are none, RESOURCE_EXHAUSTED for too
  // many.
  template <typename Request>
  absl::Status Receive(const grpc::ServerContext& context, absl::string_view method, grpc::ByteBuffer message,
                       Request& request) const;
  // What an update of the model began with last, if the caller may begin one: others are not to find out, by the time
  // that their call takes, what a model consists of.
  std::shared_ptr<const KnownManifest> FindManifest(const grpc::ServerContext& context, absl::string_view method,
                                                    const std::string& model) const;
  // Whether the caller may, and on the request's model, if it names one.
  template <typename Request>
  absl::Status Authorize(const grpc::ServerContext& context, absl::string_view method, const Request& request) const;

  // With how the device and how far the commit hook is.
  v1::Model StateOf(const ModelSnapshot& snapshot) const;
  // The model as it is; one without anything if there is none of this name.
  ModelSnapshot SnapshotOf(const std::string& model) const;

  const CallEnvironment environment_;
  ModelRegistry& registry_;
  std::atomic<bool> stopping_{false};
  // Owned here: gRPC keeps only the pointers that it is given as names of methods.
  std::vector<std::unique_ptr<std::string>> method_names_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SERVICE_H_
