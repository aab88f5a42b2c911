// One model: its committed versions, the update in flight, and what changes them.
#ifndef WEIGHTSTREAM_SERVER_MODEL_H_
#define WEIGHTSTREAM_SERVER_MODEL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/known_manifests.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/model_store.h"
#include "server/registered_targets.h"
#include "server/update.h"
#include "server/update_pace.h"
#include "server/update_slots.h"
#include "server/version_medium.h"
#include "tensor/monotonic_cond_var.h"
#include "tensor/spec.h"

namespace weightstream {

// What a model needs of its surroundings. All outlive it.
struct ModelContext {
  VersionMedium* medium = nullptr;
  const Limits* limits = nullptr;
  Metrics* metrics = nullptr;
  UpdateSlots* slots = nullptr;
  // Ends updates of other models that are silent or too slow, if that frees so many bytes, for the sake of the update
  // that is named; false if it would not, and then ends none. Called with no lock held.
  std::function<bool(uint64_t lacking_bytes, absl::string_view subject)> end_stalled_for_room = {};
  // Ends one of them for the sake of one that finds all places taken, if there is one. Likewise.
  std::function<void()> end_stalled_for_place = {};
  // Called with no lock held, once a version has become current; with the update that brought it, empty for a rollback.
  std::function<void(const std::string& model, uint64_t version, const std::string& update)> on_current = {};
  // Called with no lock held, once a model may have no whole version any more (the current one, or what its targets
  // hold, is overwritten), or again one that is none of an update's.
  std::function<void(const std::string& model)> on_lost = {};
};

struct BeginParams {
  uint64_t version = 0;
  std::vector<TensorSpec> tensors;
  // As they came, if that is to be kept for the next time.
  std::shared_ptr<const std::string> wire;
  // The manifest, instead of `tensors`, where an update of this model began with the same before.
  std::shared_ptr<const KnownManifest> known;
  Metadata metadata;
  uint64_t bucket_limit_bytes = 0;
  std::string source_id;
};

// What a commit's sender says of the version that it means; what it leaves out is not checked.
struct CommitExpectation {
  absl::optional<uint64_t> version;
  absl::optional<uint32_t> manifest_crc32c;
};

struct BegunUpdate {
  std::shared_ptr<Update> update;
  bool resumed = false;
};

// What is in the memory that an inference server registered.
struct TargetsRecord {
  // Empty where none is registered.
  std::string owner;
  uint64_t tensors = 0;
  uint64_t bytes = 0;
  // The version that is whole there, 0 if none is.
  uint64_t version = 0;
  // Bytes were written since any was: what the targets hold is a mixture.
  bool dirty = false;
  // Then of which: see ModelSnapshot.
  uint64_t overwritten = 0;
  uint64_t unfinished = 0;
  // The registration has ended, and something may yet be written there.
  bool closing = false;
};

// A consistent picture at one moment.
struct ModelSnapshot {
  std::string name;
  uint64_t current = 0;
  uint64_t highest = 0;
  // The version that was overwritten in place, and is no version any more; 0 where there is none.
  uint64_t overwritten = 0;
  // The version of which bytes were written in place and that was not committed; 0 where there is none.
  uint64_t unfinished = 0;
  std::vector<VersionRecord> versions;
  // Made ready for the next version.
  uint64_t prepared_bytes = 0;
  TargetsRecord targets;
  // The one in flight first, then those that ended, the newest first.
  std::vector<UpdateRecord> updates;
  // Grows with each change of state; progress does not count.
  uint64_t change = 0;

  // True if what an inference server has of this model is one version: none that is half-written into its targets.
  bool whole() const { return current != 0 && (!targets.dirty || targets.closing); }
};

// Thread-safe. Operations that change the model (Begin, Commit, Abort, Rollback) come one after the other, each with
// the model to itself, so that no lock is held while files are written: one that waits longer than
// limits.operation_wait ends with UNAVAILABLE.
class Model {
 public:
  Model(StoredModel stored, ModelContext context);

  const std::string& name() const { return name_; }

  // Begins, resumes or supersedes; see BeginUpdate in the .proto. `update_id` is used if a new update begins.
  absl::StatusOr<BegunUpdate> Begin(const std::string& update_id, BeginParams params) ABSL_LOCKS_EXCLUDED(mutex_);

  // Commits. Repeated for the same update it returns the same. DATA_LOSS if the update is not what its sender expects.
  absl::StatusOr<VersionRecord> Commit(const std::string& update_id, const CommitExpectation& expected = {})
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Aborts the update if it is in flight; OK if it was aborted before.
  absl::Status Abort(const std::string& update_id, absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the version that was current before, 0 if none was.
  absl::StatusOr<uint64_t> Rollback(uint64_t version) ABSL_LOCKS_EXCLUDED(mutex_);

  // Keeps a held version (0: the current one) where it is: it is neither removed nor overwritten until the result goes,
  // which may be on any thread, and must be before the model's end. FAILED_PRECONDITION if an update in flight is about
  // to be written over it.
  class Pin;
  absl::StatusOr<std::unique_ptr<Pin>> PinVersion(uint64_t version) ABSL_LOCKS_EXCLUDED(mutex_);

  // From now on updates are written into these targets, until UnregisterTargets. One in flight, which is written
  // elsewhere, is superseded. FAILED_PRECONDITION if there are others already; INVALID_ARGUMENT if they contradict the
  // current version's manifest.
  absl::Status RegisterTargets(std::shared_ptr<const RegisteredTargets> targets) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends what is written into them, with this reason, and forgets the version that they held. Snapshot() shows them for
  // as long as their memory is open, because something may be written there: streams leave and copies complete first,
  // for which this waits up to limits.copy_wait. False if something may yet be written after that.
  bool UnregisterTargets(absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);

  // The update, if it is in flight; else why it is not, if that is still known, or NOT_FOUND.
  absl::StatusOr<std::shared_ptr<Update>> FindUpdate(absl::string_view update_id) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the update, in flight or ended; nothing if it is not known, or of no trace.
  absl::optional<TraceContext> TraceOf(absl::string_view update_id) const ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<Update> update_in_flight() const ABSL_LOCKS_EXCLUDED(mutex_);

  // A committed version; 0 is the current one. NOT_FOUND says what there is.
  absl::StatusOr<VersionRecord> FindVersion(uint64_t version) const ABSL_LOCKS_EXCLUDED(mutex_);

  ModelSnapshot Snapshot() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until Snapshot().change is not `seen` any more, or the time is over.
  void AwaitChange(uint64_t seen, absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes the oldest versions beyond limits.keep_versions, as after a commit: at the start, where the limit was
  // higher before, or the last commit was cut off.
  void ApplyRetention() ABSL_LOCKS_EXCLUDED(mutex_);

  // Looks how far the update in flight is, if there is one; to be called about once a second. What it saw is what
  // WhyTooSlow goes by: see UpdatePace.
  void SamplePace() ABSL_LOCKS_EXCLUDED(mutex_);
  // None if this is not the update in flight, or gets on.
  absl::optional<std::string> WhyTooSlow(const Update& update) const ABSL_LOCKS_EXCLUDED(mutex_);

  // True if nothing would be lost with this object: no version, nothing in flight.
  bool IsForgettable() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Holds the model for one operation.
  class Operation;

  // ---- In place: model_in_place.cc ----

  // Memory of its own where there is room, after older versions have gone if need be; else the current version's.
  absl::StatusOr<UpdateArena> ProvideArena(const ArenaRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<UpdateArena> ProvideInPlace(const ArenaRequest& request, const absl::Status& no_room)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes versions that are neither current nor pinned, the oldest first, if that makes enough room, and then
  // provides it; else `no_room` and why, with nothing removed.
  absl::StatusOr<std::shared_ptr<Target>> ProvideForOlder(const ArenaRequest& request, const absl::Status& no_room)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What that may remove, ascending.
  std::vector<uint64_t> RemovableForRoom() const ABSL_LOCKS_EXCLUDED(mutex_);
  // ---- Registered targets: model_targets.cc ----

  // The targets, for this manifest; null if none are registered.
  absl::StatusOr<absl::optional<UpdateArena>> ProvideRegistered(const ArenaRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // INVALID_ARGUMENT if they contradict the current version's manifest.
  absl::Status CheckAgainstCurrent(const std::shared_ptr<const RegisteredTargets>& targets) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the update that is written into them, if one is in flight.
  void EndUpdateIntoTargets(absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until no stream and no copy is left of the last update that was written into them and was not committed.
  // False if that takes longer.
  bool AwaitTargetsLeft(absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets the version in them; which that was, 0 if none.
  uint64_t ForgetTargetsVersion() ABSL_LOCKS_EXCLUDED(mutex_);
  // Has them closed by the last who uses them, for whom it waits a short time; until then they are shown.
  void ForgetTargets() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until targets of a registration that has ended are closed. False if that takes longer.
  bool AwaitTargetsClosed(absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mutex_);
  TargetsRecord Targets() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The first bytes of `update` are about to be written over version `over` (0: none), which ends here. ABORTED if the
  // update has ended.
  absl::Status StartOverwriting(const Update& update, uint64_t over) ABSL_LOCKS_EXCLUDED(mutex_);
  // Why what was written in place cannot be read, or why nothing is current. Requires unfinished_ != 0.
  absl::Status UnfinishedStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Status CheckParams(const BeginParams& params) const;
  absl::Status CheckSize(uint64_t version, uint64_t bytes) const;
  absl::Status CheckVersion(uint64_t version) const ABSL_LOCKS_EXCLUDED(mutex_);
  // A manifest laid out.
  struct LaidOut {
    std::shared_ptr<const SafetensorsLayout> layout;
    // Empty where the layout was known.
    std::string header;
    uint32_t crc32c = 0;
  };
  // Takes the tensors and the metadata.
  static absl::StatusOr<LaidOut> LayOut(BeginParams& params);
  // The update in flight, if it is the one that `params` resumes.
  absl::StatusOr<std::shared_ptr<Update>> ResumeOrSupersede(const BeginParams& params, const SafetensorsLayout& layout)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::shared_ptr<Update>> Create(const std::string& update_id, const BeginParams& params,
                                                 const LaidOut& laid_out);
  // That of the update in flight, or else a free one.
  absl::StatusOr<std::shared_ptr<UpdateSlots::Slot>> SlotForUpdate() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<VersionRecord> Publish(Update& update) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the update in flight with this reason, cuts its streams, and removes its files.
  void EndUpdate(const std::shared_ptr<Update>& update, UpdateOutcome outcome, absl::string_view reason)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Moves the update in flight to the history.
  void Retire(const Update& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsPinned(uint64_t version) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pins_.count(version) > 0; }
  // True if a version must not be removed: it is current, pinned, or what an update in flight will be written over,
  // whose readers are to hear of that.
  bool MustStay(uint64_t version) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return version == current_ || IsPinned(version) || (update_ != nullptr && update_->over() == version);
  }
  void Unpin(uint64_t version) ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets it, if it is held.
  void EraseVersion(uint64_t version) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the oldest versions beyond the limit out of their places. `for_update`: whose commit is why, for the log; may
  // be empty.
  void RemoveOldVersions(absl::string_view for_update) ABSL_LOCKS_EXCLUDED(mutex_);
  // Says what became of it.
  void RemoveFromMedium(uint64_t version, absl::string_view for_update);
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const ModelContext context_;

  mutable absl::Mutex mutex_;
  mutable MonotonicCondVar changed_;
  // The operation that has the model to itself; empty if none.
  absl::string_view operation_ ABSL_GUARDED_BY(mutex_);
  // Those that wait for it to be over.
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t current_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t highest_ ABSL_GUARDED_BY(mutex_) = 0;
  // See ModelSnapshot. Both until a version is whole again.
  uint64_t overwritten_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<VersionRecord> versions_ ABSL_GUARDED_BY(mutex_);
  // Versions that are to stay, and how often that was asked for.
  std::map<uint64_t, uint32_t> pins_ ABSL_GUARDED_BY(mutex_);
  // Null where there are none; and see TargetsRecord.
  std::shared_ptr<const RegisteredTargets> targets_ ABSL_GUARDED_BY(mutex_);
  // Those of the last registration that has ended, until they are closed, and what is shown of them in the meantime.
  std::weak_ptr<const void> closing_ ABSL_GUARDED_BY(mutex_);
  TargetsRecord closing_targets_ ABSL_GUARDED_BY(mutex_);
  uint64_t targets_version_ ABSL_GUARDED_BY(mutex_) = 0;
  bool targets_dirty_ ABSL_GUARDED_BY(mutex_) = false;
  // The last update that began to be written into targets, these or others, until it is committed. Streams and copies
  // hold it: while it is there, something of it may yet be written.
  std::weak_ptr<const Update> into_targets_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Update> update_ ABSL_GUARDED_BY(mutex_);
  // Of update_; null with it.
  std::shared_ptr<UpdateSlots::Slot> slot_ ABSL_GUARDED_BY(mutex_);
  UpdatePace pace_ ABSL_GUARDED_BY(mutex_);
  std::deque<UpdateRecord> history_ ABSL_GUARDED_BY(mutex_);
  uint64_t change_ ABSL_GUARDED_BY(mutex_) = 1;
};

class Model::Pin {
 public:
  ~Pin() { model_.Unpin(record_.version); }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

  const VersionRecord& record() const { return record_; }

 private:
  friend class Model;
  Pin(Model& model, VersionRecord record) : model_(model), record_(std::move(record)) {}

  Model& model_;
  const VersionRecord record_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_H_
