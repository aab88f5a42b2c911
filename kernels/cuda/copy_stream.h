// One CUDA stream of copies, and what is to be called as each of them is done.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_
#define WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "kernels/cast_element.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/device.h"

namespace weightstream {

// Copies are done in the order in which they were queued, each with an event behind it. Queueing is thread-safe and
// waits for nothing but other queueing; Poll is for one thread.
//
// Once the device has failed, a copy is over when the stream could be waited for. Where it could not, the device may
// still read the copy's source and write its destination: its `done` is called all the same, so that nobody waits for
// it, and then kept, with all that it owns, for as long as the process lives.
class CopyStream {
 public:
  // `ended` is called behind the `done` of each copy, when that has been let go of, or is kept.
  static absl::StatusOr<std::unique_ptr<CopyStream>> Create(std::shared_ptr<CudaContext> context,
                                                            std::function<void()> ended);

  // Requires that each copy has ended.
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

  // Allocates that memory, if it is not there yet: allocating may wait for the device, and may fail.
  absl::Status PrepareToCast() ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `done` for what is done by now, and for everything once the device has failed. Returns how many.
  size_t Poll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Pending {
    CudaEventHandle event;
    Device::CopyDone done;
  };
  struct Outcome {
    absl::Status status;
    // Whether nothing of it is under way.
    bool over = true;
  };

  CopyStream(std::shared_ptr<CudaContext> context, CudaStreamHandle stream, std::function<void()> ended)
      : context_(std::move(context)), stream_(stream), ended_(std::move(ended)) {}

  absl::Status QueueCopy(absl::string_view source, char* destination) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status QueueCast(FloatCast cast, absl::string_view source, char* destination)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HaveScratch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts an event behind what was queued, if that went well, and takes `done`; else waits until nothing of it is under
  // way.
  Outcome Finish(absl::Status queued, Device::CopyDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<CudaEventHandle> TakeEvent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first that is done, into `first`; false if there is none.
  bool TakeDone(Pending& first, Outcome& how) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether all that was queued is over, for which this waits; false marks the device failed.
  bool WaitForAll();
  // The same, of a device that has failed, so that nothing more is queued: for Poll, which has taken the first out.
  bool AllOver() ABSL_LOCKS_EXCLUDED(mutex_);
  // Says that so many copies may be under way for good.
  void TellKept(size_t copies);
  void End(Device::CopyDone done, Outcome how);

  const std::shared_ptr<CudaContext> context_;
  const CudaStreamHandle stream_;
  const std::function<void()> ended_;
  // Held while a copy and its event are queued, which must stay together, and which do not wait for the device.
  absl::Mutex mutex_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  // Created as they are needed, and used again.
  std::vector<CudaEventHandle> free_events_ ABSL_GUARDED_BY(mutex_);
  // What AllOver found. Poll's alone, and after it the destructor's.
  absl::optional<bool> all_over_;
  // Null until PrepareToCast, or else the first cast. The stream's order keeps its uses apart.
  std::unique_ptr<CudaMemory> scratch_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_COPY_STREAM_H_
