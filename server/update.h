// One attempt to bring a model to a version: its manifest, its target, what has landed, and its state.
#ifndef WEIGHTSTREAM_SERVER_UPDATE_H_
#define WEIGHTSTREAM_SERVER_UPDATE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "kernels/device.h"
#include "proto/trace_context.h"
#include "server/range_tracker.h"
#include "server/update_state.h"
#include "tensor/monotonic_clock.h"
#include "tensor/monotonic_cond_var.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

class BoundTargets;

struct UpdateIdentity {
  std::string id;
  std::string model;
  uint64_t version = 0;
  std::string source_id;
};

// Where an update's bytes go.
// How long whoever needs the memory of an update that was ended waits for its streams to leave.
inline constexpr absl::Duration kCutPatience = absl::Seconds(2);

enum class UpdateMode {
  // Memory of its own: what is current stays as it is until the commit.
  kBeside,
  // Over the current version, for want of room.
  kInPlace,
  // Into memory that an inference server owns and has registered.
  kRegistered,
};

// The memory of an update.
struct UpdateArena {
  std::shared_ptr<Target> target;
  UpdateMode mode = UpdateMode::kBeside;
  // The version that it is written over, if in place or into registered memory that holds one.
  uint64_t over = 0;
  // Where each tensor goes, if not into one piece of memory in the layout's order: then `target` is this.
  std::shared_ptr<const BoundTargets> placement = nullptr;
  // Asked before the first bytes go to the target, perhaps by several streams at once; on an error they do not. Empty
  // if there is nobody to ask.
  std::function<absl::Status(const class Update&)> before_first_byte = {};
};

// What an update was, once it ended, or is now: for status.
struct UpdateRecord {
  UpdateIdentity identity;
  UpdateMode mode = UpdateMode::kBeside;
  UpdateState state = UpdateState::kReceiving;
  uint64_t total_bytes = 0;
  uint64_t landed_bytes = 0;
  absl::Time begin_time;
  absl::Time end_time = absl::InfiniteFuture();
  std::string reason;
  uint32_t open_streams = 0;
  uint32_t manifest_crc32c = 0;
  absl::optional<TraceContext> trace{};
};

// Shared by the model, the streams that feed it and the copies in flight: the target lives until the last of them is
// gone, so that nothing can write into memory that was freed. Thread-safe.
class Update {
 public:
  // Requires a layout from LayOutSafetensors.
  Update(UpdateIdentity identity, std::shared_ptr<const SafetensorsLayout> layout, uint32_t manifest_crc32c,
         uint64_t bucket_limit_bytes, UpdateArena arena);
  ~Update();

  const UpdateIdentity& identity() const { return identity_; }
  const SafetensorsLayout& layout() const { return *layout_; }
  const std::shared_ptr<const SafetensorsLayout>& shared_layout() const { return layout_; }
  uint64_t bucket_limit_bytes() const { return bucket_limit_bytes_; }
  UpdateMode mode() const { return arena_.mode; }
  uint64_t over() const { return arena_.over; }
  Target& target() { return *arena_.target; }
  const Target& target() const { return *arena_.target; }
  const std::shared_ptr<Target>& shared_target() const { return arena_.target; }
  // Null where all goes into the target, in the layout's order.
  const std::shared_ptr<const BoundTargets>& placement() const { return arena_.placement; }
  RangeTracker& ranges() { return ranges_; }
  const RangeTracker& ranges() const { return ranges_; }

  // Of the version's header.
  uint32_t manifest_crc32c() const { return manifest_crc32c_; }

  // The index in layout().tensors of the tensor of this name.
  absl::optional<uint32_t> FindTensor(absl::string_view name) const;
  // The same for the name of a tensor that is probably this one.
  absl::optional<uint32_t> FindTensor(absl::string_view name, uint32_t probable) const;

  UpdateState state() const ABSL_LOCKS_EXCLUDED(mutex_);

  // OK while chunks may come. Else why not: FAILED_PRECONDITION once committing, ABORTED with the reason once aborted.
  absl::Status ReceivingStatus() const;

  // To be asked before bytes go to the target: OK unless the update has ended since, and what it would overwrite is to
  // stay. Costs nothing once it has said so.
  absl::Status AboutToWrite() {
    if (may_write_.load(std::memory_order_acquire)) return absl::OkStatus();
    return AskToWrite();
  }

  // kReceiving -> kCommitting, if nothing is missing. FAILED_PRECONDITION names what is missing, or the state.
  absl::Status StartCommit() ABSL_LOCKS_EXCLUDED(mutex_);
  // kCommitting -> kCommitted.
  void FinishCommit() ABSL_LOCKS_EXCLUDED(mutex_);
  // To kAborted, from any state but the final ones; false if it was final already. Streams end with ABORTED and the
  // reason at their next chunk; those that bring none are cut by CutStreams.
  bool Abort(absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);

  // A stream that feeds this update, for as long as it does; `cut` ends it from another thread, with the reason. It
  // must not block, nor call back.
  using CutStream = std::function<void(const absl::Status&)>;
  uint64_t AddStream(CutStream cut) ABSL_LOCKS_EXCLUDED(mutex_);
  void RemoveStream(uint64_t token) ABSL_LOCKS_EXCLUDED(mutex_);
  // Cuts the streams, with what ReceivingStatus says, and waits up to `patience` for them to leave. An idle one would
  // otherwise hold the target for as long as its sender likes.
  void CutStreams(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);

  // The trace of the sender that began it or resumed it last: for the lines in the log that no call of its writes.
  absl::optional<TraceContext> trace() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetTrace(TraceContext trace) ABSL_LOCKS_EXCLUDED(mutex_);

  // Notes that the server made a stream wait, by its peer's rate.
  void NoteHeldBack() { held_back_.store(true, std::memory_order_relaxed); }
  // Whether it did since this was last asked.
  bool TakeHeldBack() { return held_back_.exchange(false, std::memory_order_relaxed); }

  // Notes that the sender is alive.
  void Touch() { last_activity_nanos_.store(absl::ToInt64Nanoseconds(MonotonicNow()), std::memory_order_relaxed); }
  // When it began, and when its sender last gave a sign of life, as MonotonicNow() tells: a clock that is set is no
  // idleness.
  absl::Duration began() const { return began_; }
  absl::Duration last_activity() const {
    return absl::Nanoseconds(last_activity_nanos_.load(std::memory_order_relaxed));
  }

  UpdateRecord Record() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool MoveTo(UpdateState state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AskToWrite();

  const UpdateIdentity identity_;
  // Shared with other updates of the same manifest.
  const std::shared_ptr<const SafetensorsLayout> layout_;
  const uint32_t manifest_crc32c_;
  const uint64_t bucket_limit_bytes_;
  const absl::Time begin_time_;
  const absl::Duration began_;
  // The target is shared with who makes it ready ahead of the chunks, and with the version that it becomes.
  const UpdateArena arena_;
  std::atomic<bool> may_write_;
  RangeTracker ranges_;
  std::atomic<int64_t> last_activity_nanos_;
  std::atomic<bool> held_back_{false};

  mutable absl::Mutex mutex_;
  // Signalled when the last stream has left.
  MonotonicCondVar left_;
  UpdateState state_ ABSL_GUARDED_BY(mutex_) = UpdateState::kReceiving;
  // Mirrors state_ for the check that every chunk makes.
  std::atomic<bool> receiving_{true};
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  absl::Time end_time_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::optional<TraceContext> trace_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_stream_token_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, CutStream> streams_ ABSL_GUARDED_BY(mutex_);
};

// Why chunks of an ended update are refused: used for live updates and for what is remembered of past ones.
absl::Status EndedUpdateStatus(const UpdateRecord& record);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_UPDATE_H_
