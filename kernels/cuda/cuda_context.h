// One CUDA device as everything in this room sees it: its calls, its name in messages, and whether it still works.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_CUDA_CONTEXT_H_
#define WEIGHTSTREAM_KERNELS_CUDA_CUDA_CONTEXT_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/runtime.h"

namespace weightstream {

// Shared by the device and all that came from it. Thread-safe.
class CudaContext {
 public:
  // Finds the device. FAILED_PRECONDITION, in words, where there is no driver, an older one than this binary needs, no
  // GPU, none of this index, or one older than the kernels are compiled for. `runtime` outlives this.
  static absl::StatusOr<std::shared_ptr<CudaContext>> Open(CudaRuntime& runtime, int index);

  CudaRuntime& runtime() const { return runtime_; }
  const CudaDeviceInfo& info() const { return info_; }
  // In the runtime's order of devices.
  int index() const { return index_; }
  // "cuda:0".
  const std::string& name() const { return name_; }

  // To be called on each thread before calls that allocate, launch or create: makes this device the thread's. The
  // error of a failed device, if it has failed.
  absl::Status Enter();

  // What becomes of the copies that a device was given, once it has failed.
  enum class Copies {
    // The driver has ended them with the process's context: the error was sticky.
    kHaveEnded,
    // They may go on.
    kMayGoOn,
    // They were waited for long enough.
    kDoNotEnd,
  };

  // OK for success. Else the error of `call` as CudaStatus has it; a sticky one marks the device failed.
  absl::Status Check(CudaError error, absl::string_view call);

  // Marks the device failed; the first reason stays.
  void Fail(const absl::Status& reason, Copies copies) ABSL_LOCKS_EXCLUDED(mutex_);
  // Says more of the failure.
  void AddToFailure(absl::string_view what) ABSL_LOCKS_EXCLUDED(mutex_);
  // Requires that the device has failed.
  Copies copies_after_failure() const ABSL_LOCKS_EXCLUDED(mutex_);
  // OK, or why it failed.
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  CudaContext(CudaRuntime& runtime, int index, const CudaDeviceInfo& info);

  CudaRuntime& runtime_;
  const int index_;
  const CudaDeviceInfo info_;
  const std::string name_;
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Copies copies_ ABSL_GUARDED_BY(mutex_) = Copies::kMayGoOn;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_CUDA_CONTEXT_H_
