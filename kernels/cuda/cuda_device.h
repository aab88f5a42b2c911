// The device of a machine with an NVIDIA GPU: targets in its memory, one asynchronous copy a chunk.
//
// A copy is queued on one of a few streams, an event behind it, and the call returns. A thread of the device asks the
// events, stream by stream, and calls `done`; it sleeps while nothing is under way, and polls every
// kCudaPollInterval while something is. The streams do not wait for one another.
//
// Errors name the device and the call. One that CUDA does not recover from (an illegal address, an uncorrectable ECC
// error, ...) marks the device failed: Health() says so with the remedy, every copy under way ends with it, and every
// later call returns it. So does one after which nobody can tell whether copies are over: then what they use is never
// freed (copy_stream.h), and Health() says that too.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_CUDA_DEVICE_H_
#define WEIGHTSTREAM_KERNELS_CUDA_CUDA_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/cast_element.h"
#include "kernels/cuda/copy_stream.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/device.h"

namespace weightstream {

// On how many streams copies to the device are queued (--copy-streams). Not measured on a GPU yet: one copy engine
// carries one direction, so that two should do for one copy to start as another ends. The GPU benchmark measures
// kCopyStreamsToMeasure and says which is best (docs/gpu-results.md).
inline constexpr int kDefaultCopyStreams = 2;
inline constexpr int kCopyStreamsToMeasure[] = {1, 2, 4};
// Each stream that casts has 4 MiB of scratch memory on the device.
inline constexpr int kMostCopyStreams = 16;

struct CudaDeviceOptions {
  // Which of the GPUs that CUDA_VISIBLE_DEVICES leaves.
  int index = 0;
  // At least 1.
  int copy_streams = kDefaultCopyStreams;
  // How long destruction waits for the copies under way before it gives the device up.
  absl::Duration patience = absl::Seconds(30);
};

// A tenth of what a chunk of 4 MiB takes at PCIe 5's rate, and long enough to cost little of a core.
inline constexpr absl::Duration kCudaPollInterval = absl::Microseconds(10);

// Thread-safe.
class CudaDevice : public Device {
 public:
  // FAILED_PRECONDITION, in words, where there is no such device, driver, or driver new enough. `runtime` outlives it;
  // null means that this binary was built without CUDA, and is such an error too.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(CudaRuntime* runtime, const CudaDeviceOptions& options);

  // Waits for the copies under way.
  ~CudaDevice() override;

  std::string name() const override { return context_->name(); }
  // "NVIDIA H100 80GB HBM3".
  std::string model() const { return context_->info().name.data(); }
  bool needs_staging() const override { return true; }
  bool keeps_files() const override { return false; }
  // The path is of no use here.
  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override;
  uint64_t TargetFootprint(uint64_t bytes) const override { return CudaMemory::Footprint(bytes); }
  absl::StatusOr<uint64_t> FreeBytes() override { return CudaMemory::FreeBytes(*context_); }
  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override;
  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override;
  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override;
  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override;
  absl::Status Health() const override { return context_->Health(); }

  void CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override;

  absl::Status PrepareToCast() override;

  // See shared_memory.h.
  absl::StatusOr<SharedMemory> Export(Target& target) override;
  absl::StatusOr<std::unique_ptr<Target>> Open(const SharedMemory& shared) override;

 private:
  // Where kernels leave the remainders of segments, and the stream for reading back.
  struct ReadBack;

  // Streams are still to be added.
  CudaDevice(std::shared_ptr<CudaContext> context, std::unique_ptr<ReadBack> read_back, absl::Duration patience);

  // The target as one of this device's.
  absl::StatusOr<CudaTarget*> Ours(Target& target) const;
  // The next one. A copy counts as under way from here on, until the stream says that it has ended: what its `done`
  // holds is gone by then, as it must be before the device, whose destruction waits for this count.
  CopyStream& StreamForCopy() ABSL_LOCKS_EXCLUDED(mutex_);
  void CopyEnded() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status DigestSegments(const CudaTarget& target, ByteRange range, absl::Span<uint32_t> remainders);

  // The thread.
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasWorkOrEnds() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return under_way_ > 0 || ending_; }

  const std::shared_ptr<CudaContext> context_;
  // None is added once the device is open.
  std::vector<std::unique_ptr<CopyStream>> streams_;
  const std::unique_ptr<ReadBack> read_back_;
  const absl::Duration patience_;
  std::atomic<uint64_t> next_stream_{0};

  absl::Mutex mutex_;
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration give_up_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  // Last, so that it starts when the rest is there.
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_CUDA_DEVICE_H_
