#include "server/service.h"

#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/support/method_handler.h>

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "proto/convert.h"
#include "proto/status.h"
#include "proto/trace_context.h"
#include "server/export_stream.h"
#include "server/log.h"
#include "server/model_state.h"
#include "server/push_stream.h"
#include "server/read_ahead.h"
#include "server/target_stream.h"
#include "server/version_stream.h"
#include "tensor/monotonic_clock.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {
namespace {

constexpr absl::string_view kServicePrefix = "/weightstream.v1.WeightStream/";
constexpr size_t kMaxReasonBytes = 1024;
constexpr absl::Duration kDefaultWatchInterval = absl::Milliseconds(500);
constexpr absl::Duration kLeastWatchInterval = absl::Milliseconds(50);

void SetMissing(const Update& update, v1::BeginUpdateResponse* response) {
  uint64_t missing_bytes = 0;
  for (const RangeTracker::TensorMissing& missing : update.ranges().Missing()) {
    *response->add_missing() = ToProto(update.layout().tensors[missing.tensor].spec.name, missing.ranges);
    for (const ByteRange& range : missing.ranges) missing_bytes += range.size();
  }
  response->set_missing_bytes(missing_bytes);
}

// `find_known` tells what an update of a model began with last.
bool ParseBegin(grpc::ByteBuffer& message,
                absl::FunctionRef<std::shared_ptr<const KnownManifest>(const std::string& model)> find_known,
                ReceivedBegin& request) {
  std::shared_ptr<const KnownManifest> known;
  const bool parsed = ParseBeginRequest(message, request, [&](const v1::BeginUpdateRequest& fields) {
    known = find_known(fields.model());
    return known == nullptr ? absl::string_view() : absl::string_view(*known->wire);
  });
  if (request.is_known) request.known = std::move(known);
  message.Clear();
  return parsed;
}

// The caller's; nothing if it sent none that is valid, or several.
absl::optional<TraceContext> TraceFrom(const grpc::ServerContext& context) {
  const auto [first, end] = context.client_metadata().equal_range(kTraceparent);
  if (first == end || std::next(first) != end) return absl::nullopt;
  return ParseTraceparent(absl::string_view(first->second.data(), first->second.size()));
}

}  // namespace

WeightStreamService::WeightStreamService(CallEnvironment environment)
    : environment_(environment), registry_(*environment.registry) {
  AddUnary("BeginUpdate", &WeightStreamService::BeginUpdate);
  AddPush();
  AddUnary("CommitUpdate", &WeightStreamService::CommitUpdate);
  AddUnary("AbortUpdate", &WeightStreamService::AbortUpdate);
  AddServerStream("Pull", &WeightStreamService::Pull);
  AddUnary("GetManifest", &WeightStreamService::GetManifest);
  AddServerStream("DigestModel", &WeightStreamService::DigestModel);
  AddUnary("GetModel", &WeightStreamService::GetModel);
  AddUnary("ListModels", &WeightStreamService::ListModels);
  AddServerStream("WatchModel", &WeightStreamService::WatchModel);
  AddUnary("RollbackModel", &WeightStreamService::RollbackModel);
  AddServerStream("ExportTarget", &WeightStreamService::ExportTarget);
  AddServerStream("RegisterTargets", &WeightStreamService::RegisterTargets);
}

template <typename Request>
absl::Status WeightStreamService::Receive(const grpc::ServerContext& context, absl::string_view method,
                                          grpc::ByteBuffer message, Request& request) const {
  if (absl::Status admitted = environment_.replies->Admit(context); !admitted.ok()) return admitted;
  // Nothing that a stranger says is looked at.
  const Authorizer* const authorizer = environment_.authorizer;
  if (authorizer != nullptr && absl::IsUnauthenticated(authorizer->Check(EvidenceOf(context), method, ""))) {
    // Logs it. The rules may have changed since: then the call goes on as any other.
    if (absl::Status refused = Permit(authorizer, context, method).Check(""); !refused.ok()) return refused;
  }
  const size_t bytes = message.Length();
  if (bytes > environment_.limits->manifest_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the ", method, " message has ", bytes,
                                                     " bytes; this server takes at most ",
                                                     environment_.limits->manifest_bytes, " (--max-manifest-mib)"));
  }
  bool parsed = false;
  if constexpr (std::is_same_v<Request, ReceivedBegin>) {
    parsed = ParseBegin(
        message, [&](const std::string& model) { return FindManifest(context, method, model); }, request);
  } else {
    parsed = grpc::SerializationTraits<Request>::Deserialize(&message, &request).ok();
  }
  if (!parsed) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", method, " message of ", bytes, " bytes is no ", Request::descriptor()->full_name(),
                     ": it is cut or damaged, or a name in it is not UTF-8; see docs/api.md for the format"));
  }
  return Authorize(context, method, request);
}

std::shared_ptr<const KnownManifest> WeightStreamService::FindManifest(const grpc::ServerContext& context,
                                                                       absl::string_view method,
                                                                       const std::string& model) const {
  const Authorizer* const authorizer = environment_.authorizer;
  // Authorize says so in the log, once.
  if (authorizer != nullptr && !authorizer->Check(EvidenceOf(context), method, model).ok()) return nullptr;
  return registry_.FindManifest(model);
}

template <typename Request>
absl::Status WeightStreamService::Authorize(const grpc::ServerContext& context, absl::string_view method,
                                            const Request& request) const {
  Permit permit(environment_.authorizer, context, method);
  if constexpr (requires { request.model(); }) {
    if (ValidateModelName(request.model()).ok()) return permit.Check(request.model());
  }
  // No model, or none that there could be: the handler says so to whoever may call it at all.
  return permit.Check("");
}

grpc::Status WeightStreamService::Ended(grpc::ServerContext* context, absl::string_view method,
                                        const absl::Status& status, uint64_t reply_bytes) const {
  environment_.metrics->CallEnded(method, status.code());
  environment_.replies->Sending(context, method, reply_bytes);
  return ToGrpcStatus(status);
}

// The three Add functions do what the generated service's constructor does (see weightstream.grpc.pb.cc), with the
// message types of our choice. Requests are taken as bytes and parsed here: gRPC ends a call whose request it cannot
// parse with INTERNAL and no word.
template <typename Request, typename Response>
void WeightStreamService::AddUnary(absl::string_view method,
                                   absl::Status (WeightStreamService::*handler)(grpc::ServerContext*, Request&,
                                                                                Response*)) {
  method_names_.push_back(std::make_unique<std::string>(absl::StrCat(kServicePrefix, method)));
  AddMethod(new grpc::internal::RpcServiceMethod(
      method_names_.back()->c_str(), grpc::internal::RpcMethod::NORMAL_RPC,
      new grpc::internal::RpcMethodHandler<WeightStreamService, grpc::ByteBuffer, Response, grpc::ByteBuffer,
                                           google::protobuf::MessageLite>(
          [handler, method](WeightStreamService* service, grpc::ServerContext* context, const grpc::ByteBuffer* message,
                            Response* response) {
            const LogTrace trace(TraceFrom(*context));
            std::remove_const_t<Request> request;
            absl::Status status = service->Receive(*context, method, *message, request);
            if (status.ok()) status = (service->*handler)(context, request, response);
            return service->Ended(context, method, status, status.ok() ? response->ByteSizeLong() : 0);
          },
          this)));
}

template <typename Request, typename Response>
void WeightStreamService::AddServerStream(absl::string_view method,
                                          absl::Status (WeightStreamService::*handler)(grpc::ServerContext*,
                                                                                       const Request&,
                                                                                       grpc::ServerWriter<Response>*)) {
  method_names_.push_back(std::make_unique<std::string>(absl::StrCat(kServicePrefix, method)));
  AddMethod(new grpc::internal::RpcServiceMethod(
      method_names_.back()->c_str(), grpc::internal::RpcMethod::SERVER_STREAMING,
      new grpc::internal::ServerStreamingHandler<WeightStreamService, grpc::ByteBuffer, Response>(
          [handler, method](WeightStreamService* service, grpc::ServerContext* context, const grpc::ByteBuffer* message,
                            grpc::ServerWriter<Response>* writer) {
            const LogTrace trace(TraceFrom(*context));
            Request request;
            absl::Status status = service->Receive(*context, method, *message, request);
            if (status.ok()) status = (service->*handler)(context, request, writer);
            return service->Ended(context, method, status, 0);
          },
          this)));
}

void WeightStreamService::AddPush() {
  method_names_.push_back(std::make_unique<std::string>(absl::StrCat(kServicePrefix, "Push")));
  std::unique_ptr<grpc::internal::MethodHandler> handler =
      NewReadAheadHandler([this](grpc::ServerContext* context, grpc::ServerReaderInterface<grpc::ByteBuffer>* reader,
                                 v1::PushResponse* response) {
        const LogTrace trace(TraceFrom(*context));
        absl::Status status = environment_.replies->Admit(*context);
        if (status.ok()) status = ServePush(environment_, context, reader, response);
        return Ended(context, "Push", status, 0);
      });
  AddMethod(new grpc::internal::RpcServiceMethod(method_names_.back()->c_str(),
                                                 grpc::internal::RpcMethod::CLIENT_STREAMING, handler.release()));
}

absl::Status WeightStreamService::BeginUpdate(grpc::ServerContext* context, ReceivedBegin& received,
                                              v1::BeginUpdateResponse* response) {
  const absl::Duration start = MonotonicNow();
  if (!received.manifest.ok()) return received.manifest;
  const v1::BeginUpdateRequest& request = received.fields;
  BeginParams params;
  params.version = request.version();
  params.tensors = std::move(received.tensors);
  const bool known = received.known != nullptr;
  params.known = std::move(received.known);
  params.wire = std::make_shared<const std::string>(std::move(received.wire));
  params.metadata = FromProto(request.metadata());
  params.bucket_limit_bytes = request.bucket_limit_bytes();
  params.source_id = request.source_id();
  absl::StatusOr<BegunUpdate> begun = registry_.Begin(request.model(), std::move(params));
  if (!begun.ok()) {
    LogWarning("begin_refused", {{"peer", context->peer()},
                                 {"model", Printable(request.model())},
                                 {"version", request.version()},
                                 {"error", begun.status().ToString()}});
    return begun.status();
  }
  Update& update = *begun->update;
  if (absl::optional<TraceContext> sender = LogTrace::Current(); sender.has_value())
    update.SetTrace(*std::move(sender));
  const LogTrace trace(update.trace());
  response->set_update_id(update.identity().id);
  response->set_resumed(begun->resumed);
  response->set_total_bytes(update.ranges().total_bytes());
  response->set_takes_packed_chunks(true);
  const uint64_t bucket = update.bucket_limit_bytes();
  response->set_bucket_limit_bytes(request.bucket_limit_bytes() == 0 ? bucket
                                                                     : std::min(bucket, request.bucket_limit_bytes()));
  // What lands meanwhile may be sent twice: it is then dropped.
  if (request.takes_everything_missing() && update.ranges().landed_bytes() == 0) {
    response->set_everything_missing(true);
    response->set_missing_bytes(update.ranges().total_bytes());
  } else {
    // Refused here, the update stays in flight, and the next attempt resumes it.
    absl::StatusOr<std::unique_ptr<UnsentReplies::Room>> room =
        environment_.replies->Reserve(update.layout().data_start);
    if (!room.ok()) return room.status();
    SetMissing(update, response);
  }
  environment_.metrics->PhaseTook(UpdatePhase::kBegin, MonotonicNow() - start);
  LogInfo(begun->resumed ? "update_resumed" : "update_begun", {{"peer", context->peer()},
                                                               {"model", request.model()},
                                                               {"version", request.version()},
                                                               {"update", update.identity().id},
                                                               {"tensors", update.layout().tensors.size()},
                                                               {"manifest_known", known},
                                                               {"total_bytes", response->total_bytes()},
                                                               {"missing_bytes", response->missing_bytes()}});
  return absl::OkStatus();
}

absl::Status WeightStreamService::CommitUpdate(grpc::ServerContext* context, const v1::CommitUpdateRequest& request,
                                               v1::CommitUpdateResponse* response) {
  absl::StatusOr<std::shared_ptr<Model>> model = registry_.Find(request.model());
  if (!model.ok()) return model.status();
  const LogTrace trace(LogTrace::CurrentOr((*model)->TraceOf(request.update_id())));
  const absl::Duration start = MonotonicNow();
  CommitExpectation expected;
  if (request.has_version()) expected.version = request.version();
  if (request.has_manifest_crc32c()) expected.manifest_crc32c = request.manifest_crc32c();
  absl::StatusOr<VersionRecord> record = (*model)->Commit(request.update_id(), expected);
  if (!record.ok()) {
    LogWarning("commit_refused", {{"peer", context->peer()},
                                  {"model", request.model()},
                                  {"update", Printable(request.update_id())},
                                  {"error", record.status().ToString()}});
    return record.status();
  }
  response->set_version(record->version);
  response->set_total_bytes(record->total_bytes);
  response->set_path(record->path);
  LogInfo("update_committed", {{"peer", context->peer()},
                               {"model", request.model()},
                               {"version", record->version},
                               {"update", request.update_id()},
                               {"total_bytes", record->total_bytes},
                               {"commit_seconds", absl::ToDoubleSeconds(MonotonicNow() - start)}});
  return absl::OkStatus();
}

absl::Status WeightStreamService::AbortUpdate(grpc::ServerContext* context, const v1::AbortUpdateRequest& request,
                                              v1::AbortUpdateResponse* response) {
  absl::StatusOr<std::shared_ptr<Model>> model = registry_.Find(request.model());
  if (!model.ok()) return model.status();
  const std::string reason = request.reason().substr(0, kMaxReasonBytes);
  return (*model)->Abort(request.update_id(),
                         reason.empty() ? "aborted by its sender" : absl::StrCat("aborted by its sender: ", reason));
}

absl::Status WeightStreamService::Pull(grpc::ServerContext* context, const v1::PullRequest& request,
                                       grpc::ServerWriter<grpc::ByteBuffer>* writer) {
  return ServePull(environment_, context, request, writer);
}

absl::Status WeightStreamService::ExportTarget(grpc::ServerContext* context, const v1::ExportTargetRequest& request,
                                               grpc::ServerWriter<v1::ExportedTarget>* writer) {
  return ServeExport(environment_, stopping_, context, request, writer);
}

absl::Status WeightStreamService::RegisterTargets(grpc::ServerContext* context,
                                                  const v1::RegisterTargetsRequest& request,
                                                  grpc::ServerWriter<v1::TargetsState>* writer) {
  return ServeRegister(environment_, stopping_, context, request, writer);
}

absl::Status WeightStreamService::GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest& request,
                                              v1::Manifest* response) {
  return ServeManifest(environment_, request, response);
}

absl::Status WeightStreamService::DigestModel(grpc::ServerContext* context, const v1::DigestModelRequest& request,
                                              grpc::ServerWriter<v1::TensorDigest>* writer) {
  return ServeDigest(environment_, context, request, writer);
}

absl::Status WeightStreamService::GetModel(grpc::ServerContext* context, const v1::GetModelRequest& request,
                                           v1::Model* response) {
  absl::StatusOr<std::shared_ptr<Model>> model = registry_.Find(request.model());
  if (!model.ok()) return model.status();
  *response = StateOf((*model)->Snapshot());
  return absl::OkStatus();
}

absl::Status WeightStreamService::ListModels(grpc::ServerContext* context, const v1::ListModelsRequest& request,
                                             v1::ListModelsResponse* response) {
  response->set_device(environment_.device->name());
  if (const absl::Status health = environment_.device->Health(); !health.ok()) {
    response->set_device_error(std::string(health.message()));
  }
  const Evidence evidence = environment_.authorizer != nullptr ? EvidenceOf(*context) : Evidence();
  for (const std::shared_ptr<Model>& model : registry_.All()) {
    // Models that the caller may not read are not there for it.
    const bool visible =
        environment_.authorizer == nullptr || environment_.authorizer->Check(evidence, "GetModel", model->name()).ok();
    if (visible) *response->add_models() = StateOf(model->Snapshot());
  }
  return absl::OkStatus();
}

v1::Model WeightStreamService::StateOf(const ModelSnapshot& snapshot) const {
  v1::Model state = ToProto(snapshot);
  state.set_device(environment_.device->name());
  if (const absl::Status health = environment_.device->Health(); !health.ok()) {
    state.set_device_error(std::string(health.message()));
  }
  if (environment_.hooks == nullptr) return state;
  const absl::optional<CommitHookRecord> hook = environment_.hooks->Find(snapshot.name);
  if (hook.has_value()) *state.mutable_commit_hook() = ToProto(*hook);
  return state;
}

ModelSnapshot WeightStreamService::SnapshotOf(const std::string& model) const {
  absl::StatusOr<std::shared_ptr<Model>> found = registry_.Find(model);
  if (found.ok()) return (*found)->Snapshot();
  ModelSnapshot none;
  none.name = model;
  return none;
}

absl::Status WeightStreamService::WatchModel(grpc::ServerContext* context, const v1::WatchModelRequest& request,
                                             grpc::ServerWriter<v1::Model>* writer) {
  if (absl::Status valid = ValidateModelName(request.model()); !valid.ok()) return valid;
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call =
      environment_.calls->Enter(context, "WatchModel", OpenCalls::Kind::kLasting);
  if (!call.ok()) return call.status();
  const absl::Duration interval = request.interval_ms() == 0
                                      ? kDefaultWatchInterval
                                      : std::max(kLeastWatchInterval, absl::Milliseconds(request.interval_ms()));
  std::string last;
  uint64_t last_change = 0;
  absl::Duration last_sent = -absl::InfiniteDuration();
  Permit permit(environment_.authorizer, *context, "WatchModel");
  while (!context->IsCancelled()) {
    if (absl::Status allowed = permit.Check(request.model()); !allowed.ok()) return allowed;
    if (stopping_.load(std::memory_order_acquire))
      return absl::UnavailableError("the server is shutting down; watch again later");
    const ModelSnapshot snapshot = SnapshotOf(request.model());
    // A change of state goes out at once, progress at most once per interval.
    if (snapshot.change != last_change || MonotonicNow() - last_sent >= interval) {
      const v1::Model state = StateOf(snapshot);
      std::string now = state.SerializeAsString();
      if (now != last) {
        if (!(*call)->Write(*writer, state)) return (*call)->EndStatus();
        last = std::move(now);
        last_sent = MonotonicNow();
      }
      last_change = snapshot.change;
    }
    const absl::Duration patience = std::min(interval, kDefaultWatchInterval);
    absl::StatusOr<std::shared_ptr<Model>> found = registry_.Find(request.model());
    if (found.ok()) {
      (*found)->AwaitChange(snapshot.change, patience);
    } else {
      registry_.AwaitNewModel(request.model(), patience);
    }
  }
  return (*call)->EndStatus();
}

absl::Status WeightStreamService::RollbackModel(grpc::ServerContext* context, const v1::RollbackModelRequest& request,
                                                v1::RollbackModelResponse* response) {
  absl::StatusOr<std::shared_ptr<Model>> model = registry_.Find(request.model());
  if (!model.ok()) return model.status();
  absl::StatusOr<uint64_t> previous = (*model)->Rollback(request.version());
  if (!previous.ok()) return previous.status();
  response->set_previous_version(*previous);
  *response->mutable_model() = StateOf((*model)->Snapshot());
  LogInfo(
      "rolled_back",
      {{"peer", context->peer()}, {"model", request.model()}, {"version", request.version()}, {"previous", *previous}});
  return absl::OkStatus();
}

}  // namespace weightstream
