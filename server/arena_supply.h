// Where the versions to come get their memory: fresh, or made ready in the background while nothing was to be received;
// and where that of versions which have gone is given back.
//
// Fresh shared-memory pages cost about as much at their first touch as all the rest of receiving them. So after a
// commit a spare arena of the same size is allocated and touched ahead, and the next update of the model takes it over;
// and the arena of an update that had to begin with a fresh one is touched ahead of what is received. Pages that a
// reader may still have mapped are never reused: a spare consists of new ones.
#ifndef WEIGHTSTREAM_SERVER_ARENA_SUPPLY_H_
#define WEIGHTSTREAM_SERVER_ARENA_SUPPLY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "server/model_store.h"
#include "tensor/monotonic_cond_var.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// One spare a model, of the size of its last version. A spare is a convenience: it is never made where there is no room
// for it, and goes, the oldest first, as soon as an update needs the room. Thread-safe.
class ArenaSupply {
 public:
  struct Options {
    // Make spares, and touch the arenas of updates ahead of what they receive.
    bool work_ahead = true;
    // Bytes that updates in flight, of all models, will still need of the medium. Called with no lock of the supply
    // held; from any thread.
    std::function<uint64_t()> promised_bytes;
    // How long an update waits for memory that is being freed.
    absl::Duration patience = absl::Seconds(30);
  };

  // `store` and `device` outlive this.
  ArenaSupply(ModelStore& store, Device& device, Options options);
  // As Stop.
  ~ArenaSupply();
  ArenaSupply(const ArenaSupply&) = delete;
  ArenaSupply& operator=(const ArenaSupply&) = delete;

  // An arena for an incoming version, with its header written, at the store's place for this update. `header` is the
  // layout's, or empty, and is then made here where the spare has not got it.
  // RESOURCE_EXHAUSTED if there is no room for it even without spares, with what is needed and free; `subject` says for
  // what.
  absl::StatusOr<std::shared_ptr<Target>> Provide(const std::string& model, const std::string& update_id,
                                                  const std::shared_ptr<const SafetensorsLayout>& layout,
                                                  absl::string_view header, absl::string_view subject)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // How many bytes more than are free and not promised a file of this size needs; 0 if there is room.
  uint64_t LackingBytes(uint64_t file_bytes) const;

  // Has a spare made for the next version, which will probably be laid out as this one and so gets its header. Returns
  // at once. Does nothing where memory as that of `last`, this version's arena, costs nothing to touch.
  void MakeSpare(const std::string& model, const std::shared_ptr<const SafetensorsLayout>& layout, const Target& last)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `job` on the supply's thread, before anything that it does ahead, and in the order of the calls: for what
  // frees memory, and takes long. Before the supply ends, every job has run. Without a thread, at once.
  void InBackground(std::function<void()> job) ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs the jobs that are left, ends the thread and removes the spares; from then on nothing is done ahead.
  // Idempotent; from one thread at a time.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // How much of the model's spare is ready, in bytes of data; 0 without one.
  uint64_t SpareBytes(const std::string& model) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Spare {
    std::string model;
    // Of the spare's folder in the store; unique in this process.
    std::string id;
    // That of the version before, whose header is yet to be written; null once it is in the file. A spare may wait for
    // hours, a layout of 100,000 tensors takes some ten megabytes.
    std::shared_ptr<const SafetensorsLayout> to_write = nullptr;
    // The same, for as long as somebody else has it.
    std::weak_ptr<const SafetensorsLayout> written{};
    uint64_t data_start = 0;
    uint64_t data_bytes = 0;
    // Null until it is created.
    std::shared_ptr<Target> target = nullptr;
    uint64_t next = 0;

    uint64_t file_bytes() const { return data_start + data_bytes; }
    bool Fits(const SafetensorsLayout& other) const {
      return data_start == other.data_start && data_bytes == other.data_bytes;
    }
    bool done() const { return target != nullptr && next == data_bytes; }
  };
  // The arena of an update; it is not kept alive for this.
  struct Begun {
    std::weak_ptr<Target> target;
    uint64_t next = 0;
  };

  absl::Status TakeSpare(const std::string& model, const std::string& update_id,
                         const std::shared_ptr<const SafetensorsLayout>& layout, absl::string_view header,
                         std::shared_ptr<Target>& target) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::shared_ptr<Target>> Create(const std::string& model, const std::string& update_id,
                                                 const SafetensorsLayout& layout, absl::string_view header) const;
  absl::Status CheckRoom(uint64_t file_bytes, absl::string_view subject) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the medium, promises kept.
  absl::StatusOr<uint64_t> RoomBytes() const;
  // Drops the oldest spare but that of `but_model`, and waits until its memory is free. False if there is none.
  bool DropOldest(absl::string_view but_model) ABSL_LOCKS_EXCLUDED(mutex_);
  void Discard(const Spare& spare) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until what was given to InBackground has run; false if there was nothing, UNAVAILABLE once MonotonicNow() is
  // `deadline`. Not on the thread itself.
  absl::StatusOr<bool> AwaitJobs(absl::Duration deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // The thread: one step at a time, jobs first, then updates in flight.
  void Work();
  void TouchAhead(Begun begun) ABSL_LOCKS_EXCLUDED(mutex_);
  void AdvanceSpare(Spare spare) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CreateSpare(Spare& spare);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The newest spare that is not done, or null.
  const Spare* NextSpare() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Spare>::iterator FindSpare(absl::string_view id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ModelStore& store_;
  Device& device_;
  const Options options_;

  mutable absl::Mutex mutex_;
  // Signalled when the thread has done a step.
  MonotonicCondVar rested_;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  // By age, the oldest first.
  std::vector<Spare> spares_ ABSL_GUARDED_BY(mutex_);
  std::deque<Begun> begun_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  // The thread is at a step, and may hold an arena that was dropped meanwhile.
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  bool job_running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Last, so that it starts when the rest is there. Not running without work_ahead.
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_ARENA_SUPPLY_H_
