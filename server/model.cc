#include "server/model.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/checksum.h"
#include "server/log.h"
#include "server/model_operation.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// Ended updates that are remembered, so that a late stream or a repeated commit learns what became of its update.
constexpr size_t kHistory = 8;

constexpr size_t kMaxSourceIdBytes = 256;

std::string VersionList(const std::vector<VersionRecord>& versions) {
  if (versions.empty()) return "none";
  return absl::StrJoin(versions, ", ",
                       [](std::string* out, const VersionRecord& v) { absl::StrAppend(out, v.version); });
}

absl::Status CheckExpected(const UpdateRecord& update, const CommitExpectation& expected) {
  const bool same_version = expected.version.value_or(update.identity.version) == update.identity.version;
  const bool same_manifest = expected.manifest_crc32c.value_or(update.manifest_crc32c) == update.manifest_crc32c;
  if (same_version && same_manifest) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("update '", update.identity.id, "' of model '", update.identity.model, "' brings version ",
                   update.identity.version, " with manifest ", absl::Hex(update.manifest_crc32c, absl::kZeroPad8),
                   ", its commit means version ", expected.version.value_or(update.identity.version), " with manifest ",
                   absl::Hex(expected.manifest_crc32c.value_or(update.manifest_crc32c), absl::kZeroPad8),
                   ": one of the two calls was damaged on the way; abort the update and begin again"));
}

std::string Describe(uint64_t bytes) { return absl::StrCat(bytes, " bytes"); }

}  // namespace

Model::Model(StoredModel stored, ModelContext context)
    : name_(std::move(stored.name)),
      context_(std::move(context)),
      current_(stored.current),
      highest_(stored.versions.empty() ? 0 : stored.versions.back().version),
      versions_(std::move(stored.versions)),
      pace_(*context_.limits) {}

absl::Status Model::CheckParams(const BeginParams& params) const {
  if (params.version == 0) {
    return absl::InvalidArgumentError(absl::StrCat("the version of model '", name_, "' is 0; versions start at 1"));
  }
  if (params.source_id.size() > kMaxSourceIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the source_id is ", params.source_id.size(),
                                                   " bytes long; at most ", kMaxSourceIdBytes, " are allowed"));
  }
  const Limits& limits = *context_.limits;
  const size_t tensors = params.known == nullptr ? params.tensors.size() : params.known->layout->tensors.size();
  if (tensors > limits.manifest_tensors) {
    return absl::ResourceExhaustedError(absl::StrCat("the manifest of model '", name_, "' has ", tensors,
                                                     " tensors; this server takes at most ", limits.manifest_tensors,
                                                     " (--max-manifest-tensors)"));
  }
  return absl::OkStatus();
}

absl::Status Model::CheckSize(uint64_t version, uint64_t bytes) const {
  const Limits& limits = *context_.limits;
  if (limits.model_bytes > 0 && bytes > limits.model_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("version ", version, " of model '", name_, "' has ",
                                                     Describe(bytes), "; this server takes at most ",
                                                     Describe(limits.model_bytes), " (--max-model-gib)"));
  }
  return absl::OkStatus();
}

absl::Status Model::CheckVersion(uint64_t version) const {
  absl::MutexLock lock(&mutex_);
  for (const VersionRecord& held : versions_) {
    if (held.version != version) continue;
    return absl::AlreadyExistsError(absl::StrCat("version ", version, " of model '", name_,
                                                 "' is committed already; push a version higher than ", highest_));
  }
  if (version <= highest_) {
    return absl::FailedPreconditionError(absl::StrCat("version ", version, " of model '", name_, "' is not newer than ",
                                                      highest_, ", the highest committed here; push a higher one"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Model::LaidOut> Model::LayOut(BeginParams& params) {
  const KnownManifest* const known = params.known.get();
  if (known != nullptr && known->layout->metadata == params.metadata) return LaidOut{known->layout, "", known->crc32c};
  if (known != nullptr) {
    params.tensors.reserve(known->layout->tensors.size());
    for (const PlacedTensor& tensor : known->layout->tensors) params.tensors.push_back(tensor.spec);
  }
  LaidOut laid_out;
  absl::StatusOr<SafetensorsLayout> layout =
      LayOutSafetensors(std::move(params.tensors), std::move(params.metadata), &laid_out.header);
  if (!layout.ok()) return layout.status();
  laid_out.layout = std::make_shared<const SafetensorsLayout>(*std::move(layout));
  laid_out.crc32c = ExtendCrc32c(0, laid_out.header);
  return laid_out;
}

absl::StatusOr<BegunUpdate> Model::Begin(const std::string& update_id, BeginParams params) {
  if (absl::Status checked = CheckParams(params); !checked.ok()) return checked;
  const absl::StatusOr<LaidOut> laid_out = LayOut(params);
  if (!laid_out.ok()) return laid_out.status();
  if (absl::Status checked = CheckSize(params.version, laid_out->layout->data_bytes); !checked.ok()) return checked;

  Operation operation(*this, "begin", OperationOf::kCaller);
  if (!operation.status().ok()) return operation.status();
  if (absl::Status checked = CheckVersion(params.version); !checked.ok()) return checked;
  if (absl::Status checked = context_.medium->CheckPlace(name_, params.version); !checked.ok()) return checked;
  // Before another is ended for its sake, and held until it has begun.
  absl::StatusOr<std::shared_ptr<UpdateSlots::Slot>> slot = SlotForUpdate();
  if (!slot.ok()) return slot.status();
  absl::StatusOr<std::shared_ptr<Update>> resumed = ResumeOrSupersede(params, *laid_out->layout);
  if (!resumed.ok()) return resumed.status();
  if (*resumed != nullptr) {
    (*resumed)->Touch();
    return BegunUpdate{*std::move(resumed), true};
  }

  absl::StatusOr<std::shared_ptr<Update>> created = Create(update_id, params, *laid_out);
  if (!created.ok()) return created.status();
  absl::MutexLock lock(&mutex_);
  update_ = *created;
  if (update_->mode() == UpdateMode::kRegistered) into_targets_ = update_;
  slot_ = *std::move(slot);
  pace_.Began(MonotonicNow());
  Changed();
  return BegunUpdate{*std::move(created), false};
}

absl::StatusOr<std::shared_ptr<UpdateSlots::Slot>> Model::SlotForUpdate() const {
  {
    absl::MutexLock lock(&mutex_);
    if (slot_ != nullptr) return slot_;
  }
  if (context_.slots->full() && context_.end_stalled_for_place) context_.end_stalled_for_place();
  return context_.slots->Take();
}

absl::StatusOr<std::shared_ptr<Update>> Model::ResumeOrSupersede(const BeginParams& params,
                                                                 const SafetensorsLayout& layout) {
  const std::shared_ptr<Update> update = update_in_flight();
  if (update == nullptr) return update;
  const UpdateIdentity& identity = update->identity();
  if (identity.version > params.version) {
    return absl::AbortedError(absl::StrCat("version ", params.version, " of model '", name_,
                                           "' is superseded by an update to version ", identity.version,
                                           " that is in flight"));
  }
  if (identity.version == params.version && identity.source_id == params.source_id &&
      (&layout == &update->layout() || layout == update->layout())) {
    return update;
  }
  EndUpdate(update, UpdateOutcome::kSuperseded,
            identity.version == params.version
                ? absl::StrCat("superseded by another sender of version ", params.version,
                               identity.source_id == params.source_id ? " with another manifest" : "")
                : absl::StrCat("superseded by an update to version ", params.version));
  // Its memory is free once they have left.
  update->CutStreams(kCutPatience);
  return std::shared_ptr<Update>();
}

absl::StatusOr<std::shared_ptr<Update>> Model::Create(const std::string& update_id, const BeginParams& params,
                                                      const LaidOut& laid_out) {
  absl::StatusOr<UpdateArena> arena =
      ProvideArena({.model = name_,
                    .update_id = update_id,
                    .layout = laid_out.layout,
                    .header = laid_out.header,
                    .subject = absl::StrCat("version ", params.version, " of model '", name_, "'")});
  if (!arena.ok()) return arena.status();
  const uint64_t bucket = params.bucket_limit_bytes == 0
                              ? context_.limits->bucket_bytes
                              : std::min(params.bucket_limit_bytes, context_.limits->bucket_bytes);
  return std::make_shared<Update>(UpdateIdentity{update_id, name_, params.version, params.source_id}, laid_out.layout,
                                  laid_out.crc32c, bucket, *std::move(arena));
}

absl::StatusOr<VersionRecord> Model::Commit(const std::string& update_id, const CommitExpectation& expected) {
  Operation operation(*this, "commit", OperationOf::kCaller);
  if (!operation.status().ok()) return operation.status();
  std::shared_ptr<Update> update;
  {
    absl::MutexLock lock(&mutex_);
    if (update_ != nullptr && update_->identity().id == update_id) update = update_;
    for (const UpdateRecord& past : history_) {
      if (past.identity.id != update_id || past.state != UpdateState::kCommitted) continue;
      if (absl::Status checked = CheckExpected(past, expected); !checked.ok()) return checked;
      for (const VersionRecord& held : versions_) {
        if (held.version == past.identity.version) return held;
      }
      return absl::NotFoundError(absl::StrCat("version ", past.identity.version, " of model '", name_,
                                              "' was committed by this update and removed since"));
    }
  }
  if (update == nullptr) return FindUpdate(update_id).status();
  if (absl::Status checked = CheckExpected(update->Record(), expected); !checked.ok()) return checked;
  if (absl::Status started = update->StartCommit(); !started.ok()) return started;
  {
    absl::MutexLock lock(&mutex_);
    Changed();
  }
  absl::StatusOr<VersionRecord> record = Publish(*update);
  if (!record.ok()) {
    EndUpdate(update, UpdateOutcome::kCommitFailed, absl::StrCat("the commit failed: ", record.status().message()));
    return record.status();
  }
  // A stream that is still open would keep the version's memory mapped, for writing at that.
  update->CutStreams(absl::ZeroDuration());
  if (context_.on_current) context_.on_current(name_, record->version, update_id);
  RemoveOldVersions(update_id);
  context_.medium->Committed(std::move(update));
  return record;
}

absl::StatusOr<VersionRecord> Model::Publish(Update& update) {
  const absl::Duration began = MonotonicNow();
  if (absl::Status synced = update.target().Sync(); !synced.ok()) return synced;
  const absl::Duration verified = MonotonicNow();
  absl::StatusOr<VersionRecord> record = context_.medium->Publish(update);
  if (!record.ok()) return record;
  Metrics& metrics = *context_.metrics;
  metrics.PhaseTook(UpdatePhase::kReceive, began - update.began());
  metrics.PhaseTook(UpdatePhase::kVerify, verified - began);
  metrics.PhaseTook(UpdatePhase::kCommit, MonotonicNow() - verified);
  metrics.UpdateEnded(UpdateOutcome::kCommitted);
  absl::MutexLock lock(&mutex_);
  update.FinishCommit();
  versions_.push_back(*record);
  current_ = record->version;
  overwritten_ = 0;
  unfinished_ = 0;
  if (update.mode() == UpdateMode::kRegistered) {
    targets_version_ = record->version;
    targets_dirty_ = false;
    // All of it has landed, and no stream writes that again.
    into_targets_.reset();
  }
  highest_ = std::max(highest_, record->version);
  Retire(update);
  return record;
}

absl::Status Model::Abort(const std::string& update_id, absl::string_view reason) {
  Operation operation(*this, "abort");
  if (!operation.status().ok()) return operation.status();
  absl::StatusOr<std::shared_ptr<Update>> update = FindUpdate(update_id);
  if (absl::IsAborted(update.status())) return absl::OkStatus();
  if (!update.ok()) return update.status();
  EndUpdate(*update, UpdateOutcome::kAborted, reason);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Model::Rollback(uint64_t version) {
  Operation operation(*this, "rollback", OperationOf::kCaller);
  if (!operation.status().ok()) return operation.status();
  if (version == 0)
    return absl::InvalidArgumentError("the version to roll back to is 0; name one that the model holds");
  if (absl::StatusOr<VersionRecord> held = FindVersion(version); !held.ok()) return held.status();
  if (absl::Status set = context_.medium->SetCurrent(name_, version); !set.ok()) return set;
  uint64_t previous = 0;
  {
    absl::MutexLock lock(&mutex_);
    // The first byte of an update in place may have come in between.
    if (version == overwritten_) return UnfinishedStatus();
    if (targets_ != nullptr && version != targets_version_) {
      return absl::FailedPreconditionError(absl::StrCat(
          "version ", version, " of model '", name_, "' is not the one in the targets that ", targets_->owner(),
          " registered, and cannot be brought there; push it as a version higher than ", highest_));
    }
    previous = std::exchange(current_, version);
    // Readers have a version again. While it is being written over, it stays named.
    if (update_ == nullptr || update_->over() != overwritten_) overwritten_ = unfinished_ = 0;
    Changed();
  }
  if (context_.on_current) context_.on_current(name_, version, "");
  return previous;
}

void Model::EndUpdate(const std::shared_ptr<Update>& update, UpdateOutcome outcome, absl::string_view reason) {
  if (!update->Abort(reason)) return;
  // The call that supersedes it is of another sender's trace.
  const LogTrace trace(outcome == UpdateOutcome::kSuperseded ? update->trace() : LogTrace::CurrentOr(update->trace()));
  context_.metrics->UpdateEnded(outcome);
  const absl::Status discarded = context_.medium->Discard(*update);
  LogInfo("update_aborted", {{"model", name_},
                             {"version", update->identity().version},
                             {"update", update->identity().id},
                             {"landed_bytes", update->ranges().landed_bytes()},
                             {"reason", std::string(reason)}});
  if (!discarded.ok()) {
    LogWarning("cannot_discard",
               {{"model", name_}, {"update", update->identity().id}, {"error", std::string(discarded.message())}});
  }
  {
    absl::MutexLock lock(&mutex_);
    Retire(*update);
  }
  update->CutStreams(absl::ZeroDuration());
  // One that it was to be written over may have stayed for that alone.
  if (update->over() != 0) RemoveOldVersions(update->identity().id);
}

void Model::Retire(const Update& update) {
  history_.push_front(update.Record());
  // Streams that have yet to notice feed nothing any more.
  history_.front().open_streams = 0;
  if (history_.size() > kHistory) history_.pop_back();
  pace_.Ended(MonotonicNow(), update.ranges().landed_bytes(), history_.front().state == UpdateState::kCommitted);
  update_.reset();
  slot_.reset();
  Changed();
}

void Model::ApplyRetention() { RemoveOldVersions(""); }

void Model::RemoveOldVersions(absl::string_view for_update) {
  std::vector<VersionRecord> removed;
  {
    absl::MutexLock lock(&mutex_);
    // versions_ ascends, so the oldest goes first. Beside a version in registered targets one of our own is dead
    // weight: nothing brings it there.
    const auto is_surplus = [this](uint64_t version) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return versions_.size() > context_.limits->keep_versions ||
             (targets_version_ != 0 && version != targets_version_);
    };
    for (auto it = versions_.begin(); it != versions_.end();) {
      if (MustStay(it->version) || !is_surplus(it->version)) {
        ++it;
        continue;
      }
      removed.push_back(std::move(*it));
      it = versions_.erase(it);
    }
    if (!removed.empty()) Changed();
  }
  for (const VersionRecord& version : removed) RemoveFromMedium(version.version, for_update);
}

void Model::EraseVersion(uint64_t version) {
  const auto found = std::find_if(versions_.begin(), versions_.end(),
                                  [version](const VersionRecord& held) { return held.version == version; });
  if (found != versions_.end()) versions_.erase(found);
}

void Model::RemoveFromMedium(uint64_t version, absl::string_view for_update) {
  const LogValue update = LogValue::IfAny(for_update);
  const absl::Status removed = context_.medium->Remove(name_, version);
  if (removed.ok()) {
    LogInfo("version_removed", {{"model", name_}, {"version", version}, {"update", update}});
  } else {
    LogWarning("cannot_remove_version",
               {{"model", name_}, {"version", version}, {"update", update}, {"error", removed.message()}});
  }
}

absl::StatusOr<std::unique_ptr<Model::Pin>> Model::PinVersion(uint64_t version) {
  // No update can begin meanwhile, and decide to be written over it.
  Operation operation(*this, "export", OperationOf::kCaller);
  if (!operation.status().ok()) return operation.status();
  absl::StatusOr<VersionRecord> held = FindVersion(version);
  if (!held.ok()) return held.status();
  absl::MutexLock lock(&mutex_);
  if (update_ != nullptr && update_->over() == held->version) {
    return absl::FailedPreconditionError(absl::StrCat("version ", held->version, " of model '", name_,
                                                      "' is about to be overwritten in place by update ",
                                                      update_->identity().id, "; ask again once that is committed"));
  }
  ++pins_[held->version];
  Changed();
  return absl::WrapUnique(new Pin(*this, *std::move(held)));
}

void Model::Unpin(uint64_t version) {
  {
    absl::MutexLock lock(&mutex_);
    const auto pins = pins_.find(version);
    if (--pins->second == 0) pins_.erase(pins);
    Changed();
  }
  // It may have stayed for the pin alone. Where the model is busy, the next commit sees to it.
  const Operation operation(*this, "retention");
  if (operation.status().ok()) RemoveOldVersions("");
}

absl::StatusOr<std::shared_ptr<Update>> Model::FindUpdate(absl::string_view update_id) const {
  absl::MutexLock lock(&mutex_);
  if (update_ != nullptr && update_->identity().id == update_id) return update_;
  for (const UpdateRecord& past : history_) {
    if (past.identity.id == update_id) return EndedUpdateStatus(past);
  }
  return absl::NotFoundError(absl::StrCat("model '", name_, "' has no update '", Printable(update_id),
                                          "'; it may have ended, or the server was restarted: begin it again"));
}

absl::optional<TraceContext> Model::TraceOf(absl::string_view update_id) const {
  absl::MutexLock lock(&mutex_);
  if (update_ != nullptr && update_->identity().id == update_id) return update_->trace();
  for (const UpdateRecord& past : history_) {
    if (past.identity.id == update_id) return past.trace;
  }
  return absl::nullopt;
}

std::shared_ptr<Update> Model::update_in_flight() const {
  absl::MutexLock lock(&mutex_);
  return update_;
}

absl::StatusOr<VersionRecord> Model::FindVersion(uint64_t version) const {
  absl::MutexLock lock(&mutex_);
  const uint64_t wanted = version == 0 ? current_ : version;
  for (const VersionRecord& held : versions_) {
    if (held.version == wanted) return held;
  }
  if (unfinished_ != 0 && (version == 0 || version == overwritten_)) return UnfinishedStatus();
  if (version == 0) return absl::NotFoundError(absl::StrCat("model '", name_, "' has no current version"));
  return absl::NotFoundError(
      absl::StrCat("model '", name_, "' does not hold version ", version, "; it holds ", VersionList(versions_)));
}

ModelSnapshot Model::Snapshot() const {
  ModelSnapshot snapshot;
  snapshot.name = name_;
  snapshot.prepared_bytes = context_.medium->PreparedBytes(name_);
  absl::MutexLock lock(&mutex_);
  snapshot.current = current_;
  snapshot.highest = highest_;
  snapshot.overwritten = overwritten_;
  snapshot.unfinished = unfinished_;
  snapshot.targets = Targets();
  snapshot.versions = versions_;
  for (VersionRecord& version : snapshot.versions) {
    const auto pins = pins_.find(version.version);
    if (pins != pins_.end()) version.exports = pins->second;
  }
  if (update_ != nullptr) snapshot.updates.push_back(update_->Record());
  snapshot.updates.insert(snapshot.updates.end(), history_.begin(), history_.end());
  snapshot.change = change_;
  return snapshot;
}

void Model::AwaitChange(uint64_t seen, absl::Duration patience) const {
  absl::MutexLock lock(&mutex_);
  changed_.AwaitFor(mutex_, patience, [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return change_ != seen; });
}

void Model::SamplePace() {
  absl::MutexLock lock(&mutex_);
  if (update_ == nullptr) return;
  const uint64_t landed = std::as_const(*update_).ranges().landed_bytes();
  // What the server itself holds back is not slow.
  if (update_->TakeHeldBack()) {
    pace_.Restart(MonotonicNow(), landed);
  } else {
    pace_.Sample(MonotonicNow(), landed);
  }
}

absl::optional<std::string> Model::WhyTooSlow(const Update& update) const {
  absl::MutexLock lock(&mutex_);
  if (update_.get() != &update) return absl::nullopt;
  return pace_.WhyTooSlow(MonotonicNow(), update.ranges().missing_bytes());
}

bool Model::IsForgettable() const {
  absl::MutexLock lock(&mutex_);
  // Nor may one be forgotten whose update in place still has a stream: versions_ is empty then, overwritten_ is not 0.
  return versions_.empty() && overwritten_ == 0 && targets_ == nullptr && closing_.expired() &&
         into_targets_.expired() && update_ == nullptr && operation_.empty();
}

void Model::Changed() {
  ++change_;
  changed_.SignalAll();
}

}  // namespace weightstream
