// One model: its committed versions, the update in flight, and what changes them.
#ifndef WEIGHTSTREAM_SERVER_MODEL_H_
#define WEIGHTSTREAM_SERVER_MODEL_H_

#include <cstdint>
#include <deque>
#include <functional>
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
#include "server/arena_supply.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/model_store.h"
#include "server/update.h"
#include "server/update_slots.h"
#include "tensor/spec.h"

namespace weightstream {

// What a model needs of its surroundings. All outlive it.
struct ModelContext {
  ModelStore* store = nullptr;
  ArenaSupply* arenas = nullptr;
  const Limits* limits = nullptr;
  Metrics* metrics = nullptr;
  UpdateSlots* slots = nullptr;
  // Called with no lock held, once a version has become current; with the update that brought it, empty for a rollback.
  std::function<void(const std::string& model, uint64_t version, const std::string& update)> on_current;
};

struct BeginParams {
  uint64_t version = 0;
  std::vector<TensorSpec> tensors;
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

// A consistent picture at one moment.
struct ModelSnapshot {
  std::string name;
  uint64_t current = 0;
  uint64_t highest = 0;
  std::vector<VersionRecord> versions;
  // Made ready for the next version.
  uint64_t prepared_bytes = 0;
  // The one in flight first, then those that ended, the newest first.
  std::vector<UpdateRecord> updates;
  // Grows with each change of state; progress does not count.
  uint64_t change = 0;
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

  // Returns the version that was current before.
  absl::StatusOr<uint64_t> Rollback(uint64_t version) ABSL_LOCKS_EXCLUDED(mutex_);

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

  // True if nothing would be lost with this object: no version, nothing in flight.
  bool IsForgettable() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Holds the model for one operation.
  class Operation;

  absl::Status CheckParams(const BeginParams& params) const;
  absl::Status CheckSize(uint64_t version, uint64_t bytes) const;
  absl::Status CheckVersion(uint64_t version) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The update in flight, if it is the one that `params` resumes: `header` is that of its manifest.
  absl::StatusOr<std::shared_ptr<Update>> ResumeOrSupersede(const BeginParams& params, absl::string_view header)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::shared_ptr<Update>> Create(const std::string& update_id, const BeginParams& params,
                                                 SafetensorsLayout layout, const std::string& header);
  // That of the update in flight, or else a free one.
  absl::StatusOr<std::shared_ptr<UpdateSlots::Slot>> SlotForUpdate() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<VersionRecord> Publish(Update& update) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the update in flight with this reason, cuts its streams, and removes its files.
  void EndUpdate(const std::shared_ptr<Update>& update, UpdateOutcome outcome, absl::string_view reason)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Moves the update in flight to the history.
  void Retire(const Update& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the oldest versions beyond the limit out of their places. Returns the folders whose bytes are still to be
  // freed.
  std::vector<std::string> RemoveOldVersions() ABSL_LOCKS_EXCLUDED(mutex_);
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const ModelContext context_;

  mutable absl::Mutex mutex_;
  mutable absl::CondVar changed_;
  // The operation that has the model to itself; empty if none.
  absl::string_view operation_ ABSL_GUARDED_BY(mutex_);
  uint64_t current_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t highest_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<VersionRecord> versions_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Update> update_ ABSL_GUARDED_BY(mutex_);
  // Of update_; null with it.
  std::shared_ptr<UpdateSlots::Slot> slot_ ABSL_GUARDED_BY(mutex_);
  std::deque<UpdateRecord> history_ ABSL_GUARDED_BY(mutex_);
  uint64_t change_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_H_
