#include "server/model_state.h"

#include "google/protobuf/util/time_util.h"

namespace weightstream {
namespace {

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

v1::UpdateState ToProto(UpdateState state) {
  switch (state) {
    case UpdateState::kReceiving:
      return v1::UPDATE_STATE_RECEIVING;
    case UpdateState::kCommitting:
      return v1::UPDATE_STATE_COMMITTING;
    case UpdateState::kCommitted:
      return v1::UPDATE_STATE_COMMITTED;
    case UpdateState::kAborted:
      return v1::UPDATE_STATE_ABORTED;
  }
  return v1::UPDATE_STATE_UNSPECIFIED;
}

void Fill(const VersionRecord& record, v1::VersionInfo* info) {
  info->set_version(record.version);
  info->set_total_bytes(record.total_bytes);
  info->set_tensors(record.tensors);
  info->set_manifest_crc32c(record.manifest_crc32c);
  *info->mutable_commit_time() = ToTimestamp(record.commit_time);
  info->set_path(record.path);
}

void Fill(const UpdateRecord& record, v1::UpdateInfo* info) {
  info->set_update_id(record.identity.id);
  info->set_version(record.identity.version);
  info->set_source_id(record.identity.source_id);
  info->set_state(ToProto(record.state));
  info->set_total_bytes(record.total_bytes);
  info->set_landed_bytes(record.landed_bytes);
  info->set_manifest_crc32c(record.manifest_crc32c);
  info->set_reason(record.reason);
  info->set_open_streams(record.open_streams);
  *info->mutable_begin_time() = ToTimestamp(record.begin_time);
  if (record.end_time != absl::InfiniteFuture()) *info->mutable_end_time() = ToTimestamp(record.end_time);
}

}  // namespace

v1::CommitHook ToProto(const CommitHookRecord& record) {
  v1::CommitHook hook;
  hook.set_version(record.version);
  hook.set_state(record.state == CommitHookState::kPending     ? v1::COMMIT_HOOK_STATE_PENDING
                 : record.state == CommitHookState::kSucceeded ? v1::COMMIT_HOOK_STATE_SUCCEEDED
                                                               : v1::COMMIT_HOOK_STATE_FAILED);
  hook.set_attempts(record.attempts);
  hook.set_message(record.message);
  *hook.mutable_time() = ToTimestamp(record.time);
  return hook;
}

v1::Model ToProto(const ModelSnapshot& snapshot) {
  v1::Model model;
  model.set_name(snapshot.name);
  model.set_current_version(snapshot.current);
  model.set_highest_version(snapshot.highest);
  model.set_prepared_bytes(snapshot.prepared_bytes);
  for (const VersionRecord& version : snapshot.versions) Fill(version, model.add_versions());
  for (const UpdateRecord& update : snapshot.updates) Fill(update, model.add_updates());
  return model;
}

}  // namespace weightstream
