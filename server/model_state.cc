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

v1::UpdateMode ToProto(UpdateMode mode) {
  switch (mode) {
    case UpdateMode::kBeside:
      return v1::UPDATE_MODE_BESIDE;
    case UpdateMode::kInPlace:
      return v1::UPDATE_MODE_IN_PLACE;
    case UpdateMode::kRegistered:
      return v1::UPDATE_MODE_REGISTERED;
  }
  return v1::UPDATE_MODE_UNSPECIFIED;
}

// The update in flight, if there is one; else null.
const UpdateRecord* UpdateInFlight(const ModelSnapshot& model) {
  return model.updates.empty() || IsFinal(model.updates.front().state) ? nullptr : &model.updates.front();
}

// Of memory that holds a mixture: whether its update is still at work.
v1::WeightsState MixtureState(const ModelSnapshot& model) {
  const UpdateRecord* update = UpdateInFlight(model);
  const bool writing =
      update != nullptr && update->mode != UpdateMode::kBeside && update->identity.version == model.unfinished;
  return writing ? v1::WEIGHTS_STATE_UPDATING : v1::WEIGHTS_STATE_UNTRUSTED;
}

v1::WeightsState WeightsStateOf(const ModelSnapshot& model) {
  if (model.whole()) return v1::WEIGHTS_STATE_WHOLE;
  return model.unfinished == 0 ? v1::WEIGHTS_STATE_NONE : MixtureState(model);
}

void Fill(const VersionRecord& record, v1::VersionInfo* info) {
  info->set_version(record.version);
  info->set_total_bytes(record.total_bytes);
  info->set_tensors(record.tensors);
  info->set_manifest_crc32c(record.manifest_crc32c);
  *info->mutable_commit_time() = ToTimestamp(record.commit_time);
  info->set_path(record.path);
  info->set_exports(record.exports);
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
  info->set_mode(ToProto(record.mode));
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

v1::TargetsState TargetsStateOf(const ModelSnapshot& snapshot) {
  v1::TargetsState state;
  state.set_version(snapshot.targets.version);
  const UpdateRecord* update = UpdateInFlight(snapshot);
  if (update != nullptr && update->mode == UpdateMode::kRegistered) state.set_next_version(update->identity.version);
  if (snapshot.targets.dirty) {
    state.set_state(snapshot.targets.closing ? v1::WEIGHTS_STATE_UNTRUSTED : MixtureState(snapshot));
    state.set_overwritten_version(snapshot.targets.overwritten);
    state.set_unfinished_version(snapshot.targets.unfinished);
  } else {
    state.set_state(snapshot.targets.version != 0 ? v1::WEIGHTS_STATE_WHOLE : v1::WEIGHTS_STATE_NONE);
  }
  return state;
}

v1::Model ToProto(const ModelSnapshot& snapshot) {
  v1::Model model;
  model.set_name(snapshot.name);
  model.set_current_version(snapshot.current);
  model.set_highest_version(snapshot.highest);
  model.set_prepared_bytes(snapshot.prepared_bytes);
  model.set_weights_state(WeightsStateOf(snapshot));
  model.set_overwritten_version(snapshot.overwritten);
  model.set_unfinished_version(snapshot.unfinished);
  if (!snapshot.targets.owner.empty()) {
    v1::RegisteredTargets& targets = *model.mutable_targets();
    targets.set_owner(snapshot.targets.owner);
    targets.set_tensors(snapshot.targets.tensors);
    targets.set_bytes(snapshot.targets.bytes);
    *targets.mutable_state() = TargetsStateOf(snapshot);
  }
  for (const VersionRecord& version : snapshot.versions) Fill(version, model.add_versions());
  for (const UpdateRecord& update : snapshot.updates) Fill(update, model.add_updates());
  return model;
}

}  // namespace weightstream
