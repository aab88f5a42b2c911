// Tells ThreadSanitizer that a thread which waited for another's absl::call_once sees what the callable did. The rest
// of call_once is inline, and so instrumented.
#include <absl/base/config.h>
#include <absl/base/internal/spinlock_wait.h>

#include "third_party/tsan/annotated_call.h"

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace base_internal {

std::uint32_t SpinLockWait(std::atomic<std::uint32_t>* w, int n, const SpinLockWaitTransition trans[],
                           SchedulingMode scheduling_mode) {
  static ::weightstream::tsan::NextFunction<std::uint32_t(std::atomic<std::uint32_t>*, int,
                                                          const SpinLockWaitTransition*, SchedulingMode)>
      next(
          "_ZN4absl7debian313base_internal12SpinLockWaitEPSt6atomicIjEiPKNS1_22SpinLockWaitTransitionENS1_"
          "14SchedulingModeE");
  const std::uint32_t value = next(w, n, trans, scheduling_mode);
  __tsan_acquire(w);
  return value;
}

}  // namespace base_internal
ABSL_NAMESPACE_END
}  // namespace absl
