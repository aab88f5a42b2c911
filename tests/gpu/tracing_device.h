// A device that notes when chunks were received and when they were copied: a decorator around any other.
#ifndef WEIGHTSTREAM_TESTS_GPU_TRACING_DEVICE_H_
#define WEIGHTSTREAM_TESTS_GPU_TRACING_DEVICE_H_

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"
#include "tests/gpu/timeline.h"

namespace weightstream {

// What the seam sees of receiving is its end, the call of CopyToTarget. It began once the same thread had handed over
// the chunk before, and not before the slot was free: so waiting for a slot is not counted as receiving, and waiting
// for the network is. A thread's first chunk shows no receive.
//
// Casts are passed on, and not noted. Thread-safe.
class TracingDevice : public Device {
 public:
  explicit TracingDevice(std::unique_ptr<Device> traced) : traced_(std::move(traced)) {}

  // What was noted since the last time, by its begin.
  std::vector<ActivitySpan> TakeSpans() ABSL_LOCKS_EXCLUDED(mutex_);

  std::string name() const override { return traced_->name(); }
  bool needs_staging() const override { return traced_->needs_staging(); }
  bool keeps_files() const override { return traced_->keeps_files(); }
  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override {
    return traced_->CreateTarget(spec);
  }
  uint64_t TargetFootprint(uint64_t bytes) const override { return traced_->TargetFootprint(bytes); }
  absl::StatusOr<uint64_t> FreeBytes() override { return traced_->FreeBytes(); }
  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override {
    return traced_->AllocatePinned(bytes);
  }
  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override;
  void CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    traced_->CastToTarget(cast, staged, target, offset, std::move(done));
  }
  absl::Status PrepareToCast() override { return traced_->PrepareToCast(); }
  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override {
    return traced_->ReadTarget(target, range, destination);
  }
  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override {
    return traced_->DigestTarget(target, range, block_bytes);
  }
  absl::StatusOr<SharedMemory> Export(Target& target) override { return traced_->Export(target); }
  absl::StatusOr<std::unique_ptr<Target>> Open(const SharedMemory& shared) override { return traced_->Open(shared); }
  absl::Status Health() const override { return traced_->Health(); }

 private:
  struct Receiver {
    int lane = 0;
    absl::Duration handed_over;
  };

  void NoteReceived(const char* slot, absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteHandedOver() ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteCopied(const char* slot, absl::Duration begin) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::vector<ActivitySpan> spans_ ABSL_GUARDED_BY(mutex_);
  std::map<std::thread::id, Receiver> receivers_ ABSL_GUARDED_BY(mutex_);
  // When the copy of what lay there was done.
  std::map<const char*, absl::Duration> free_from_ ABSL_GUARDED_BY(mutex_);
  // Last: copies under way, which it waits for, note their end here.
  const std::unique_ptr<Device> traced_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_GPU_TRACING_DEVICE_H_
