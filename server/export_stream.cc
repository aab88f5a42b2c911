#include "server/export_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/convert.h"
#include "server/lease.h"
#include "server/local_peer.h"
#include "server/log.h"

namespace weightstream {
namespace {

absl::StatusOr<v1::ExportedTarget> Describe(const CallEnvironment& environment, const std::string& model,
                                            const VersionRecord& record) {
  absl::StatusOr<std::shared_ptr<const ReadableVersion>> open = environment.medium->Open(model, record.version);
  if (!open.ok()) return open.status();
  absl::StatusOr<SharedMemory> shared = environment.medium->Share(model, record.version);
  if (!shared.ok()) return shared.status();
  const SafetensorsLayout& layout = (*open)->layout();
  v1::ExportedTarget target;
  target.set_model(model);
  target.set_version(record.version);
  target.set_manifest_crc32c(record.manifest_crc32c);
  target.mutable_memory()->set_handle(shared->handle);
  target.mutable_memory()->set_device_uuid(shared->device_uuid);
  target.mutable_memory()->set_offset(shared->offset);
  // The allocation may be larger, where a larger version was in it before.
  target.mutable_memory()->set_bytes(layout.data_bytes);
  for (const PlacedTensor& placed : layout.tensors) {
    v1::ExportedTensor* tensor = target.add_tensors();
    *tensor->mutable_spec() = ToProto(placed.spec);
    tensor->set_offset(placed.range.begin);
  }
  return target;
}

}  // namespace

absl::Status ServeExport(const CallEnvironment& environment, const std::atomic<bool>& stopping,
                         grpc::ServerContext* context, const v1::ExportTargetRequest& request,
                         grpc::ServerWriterInterface<v1::ExportedTarget>* writer) {
  if (absl::Status local = CheckLocalPeer(context->peer(), "ExportTarget"); !local.ok()) return local;
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call =
      environment.calls->Enter(context, "ExportTarget", OpenCalls::Kind::kLasting);
  if (!call.ok()) return call.status();
  absl::StatusOr<std::shared_ptr<Model>> model = environment.registry->Find(request.model());
  if (!model.ok()) return model.status();
  absl::StatusOr<std::unique_ptr<Model::Pin>> pin = (*model)->PinVersion(request.version());
  if (!pin.ok()) return pin.status();
  const VersionRecord& record = (*pin)->record();
  absl::StatusOr<v1::ExportedTarget> target = Describe(environment, request.model(), record);
  if (!target.ok()) return target.status();
  const auto log = [&](absl::string_view event, const absl::Status& status) {
    LogInfo(event, {{"peer", context->peer()},
                    {"model", request.model()},
                    {"version", record.version},
                    {"status", status.ToString()}});
  };
  log("version_exported", absl::OkStatus());
  const LeaseCall lease{"ExportTarget", context, call->get(), &stopping};
  const LeaseDuties duties{.tell = [](const ModelSnapshot&) { return true; },
                           .may_end = [] { return true; },
                           .at_shutdown = "and the exported memory goes with it"};
  absl::Status ended =
      (*call)->Write(*writer, *target) ? HoldLease(environment, lease, **model, duties) : (*call)->EndStatus();
  log("export_ended", ended);
  return ended;
}

}  // namespace weightstream
