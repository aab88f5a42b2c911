// Tells ThreadSanitizer what absl::BlockingCounter and absl::Barrier order: every decrement (arrival) happens before
// the end of the wait.
#include <absl/base/config.h>
#include <absl/synchronization/barrier.h>
#include <absl/synchronization/blocking_counter.h>

#include "third_party/tsan/annotated_call.h"

namespace absl {
ABSL_NAMESPACE_BEGIN

using ::weightstream::tsan::NextFunction;

bool BlockingCounter::DecrementCount() {
  static NextFunction<bool(BlockingCounter*)> next("_ZN4absl7debian315BlockingCounter14DecrementCountEv");
  __tsan_release(this);
  return next(this);
}

void BlockingCounter::Wait() {
  static NextFunction<void(BlockingCounter*)> next("_ZN4absl7debian315BlockingCounter4WaitEv");
  next(this);
  __tsan_acquire(this);
}

bool Barrier::Block() {
  static NextFunction<bool(Barrier*)> next("_ZN4absl7debian37Barrier5BlockEv");
  __tsan_release(this);
  const bool last_to_leave = next(this);
  __tsan_acquire(this);
  return last_to_leave;
}

ABSL_NAMESPACE_END
}  // namespace absl
