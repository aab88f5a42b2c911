// One CUDA stream of copies, and what is to be called as each of them is done.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_
#define WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cast_element.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/device.h"

namespace weightstream {

// Copies are done in the order in which they were queued, each with an event behind it. Queueing is thread-safe and
// waits for nothing but other queueing; Poll is for one thread.
class CopyStream {
 public:
  static absl::StatusOr<std::unique_ptr<CopyStream>> Create(std::shared_ptr<CudaContext> context);

  // Requires that nothing is queued.
  ~CopyStream();
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  // Queues one copy from page-locked memory; none for no bytes, and `done` still comes after what is before it. On an
  // error `done` is called at once, and then nothing reads `source` any more.
  void Copy(absl::string_view source, char* destination, Device::CopyDone done) ABSL_LOCKS_EXCLUDED(mutex_);

  // Queues the copies and the casts that bring `source` to `destination` as elements of the other type, by way of
  // scratch memory on the device.
  void CopyCast(FloatCast cast, absl::string_view source, char* destination, Device::CopyDone done)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `done` for what is done by now, and for everything once the device has failed. Returns how many.
  size_t Poll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Pending {
    CudaEventHandle event;
    Device::CopyDone done;
  };

  CopyStream(std::shared_ptr<CudaContext> context, CudaStreamHandle stream)
      : context_(std::move(context)), stream_(stream) {}

  absl::Status QueueCopy(absl::string_view source, char* destination) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status QueueCast(FloatCast cast, absl::string_view source, char* destination)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts an event behind what was queued, if that went well; else sees to it that nothing of it is under way.
  absl::Status Finish(absl::Status queued, Device::CopyDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<CudaEventHandle> TakeEvent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first that is done, into `first`; false if there is none.
  bool TakeDone(Pending& first, absl::Status& how) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<CudaContext> context_;
  const CudaStreamHandle stream_;
  // Held while a copy and its event are queued, which must stay together, and which do not wait for the device.
  absl::Mutex mutex_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  // Created as they are needed, and used again.
  std::vector<CudaEventHandle> free_events_ ABSL_GUARDED_BY(mutex_);
  // Null until the first cast. The stream's order keeps its uses apart.
  std::unique_ptr<CudaMemory> scratch_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_
