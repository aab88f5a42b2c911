// Runs a piece of work once per extent of something, whoever asks first.
#ifndef WEIGHTSTREAM_KERNELS_EXTENT_GATE_H_
#define WEIGHTSTREAM_KERNELS_EXTENT_GATE_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {

// One state per extent: untouched -> in work -> done, and back from in work to untouched if the work fails.
//
// Thread-safe. A pass through an extent that is done costs one atomic load. Threads that need the same extent wait for
// the one that works on it; threads that need others do not.
class ExtentGate {
 public:
  explicit ExtentGate(uint64_t extents);

  // Returns OK once the work of every extent in [begin, end) is done, running `work` where nobody did; or its first
  // error, which leaves that extent untouched, so that a later call tries again. Requires begin <= end <= extents.
  absl::Status Pass(uint64_t begin, uint64_t end, absl::FunctionRef<absl::Status(uint64_t extent)> work);

  // True if the work of every extent in [begin, end) is done.
  bool IsDone(uint64_t begin, uint64_t end) const;

 private:
  enum class State : uint8_t { kUntouched, kInWork, kDone };

  // True if the caller is to work on the extent; false once it is done.
  bool Claim(uint64_t extent);
  void Finish(uint64_t extent, bool done);

  // Written under mutex_; read without it only to see kDone, which is final.
  const std::unique_ptr<std::atomic<State>[]> states_;
  absl::Mutex mutex_;
  absl::CondVar finished_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_EXTENT_GATE_H_
