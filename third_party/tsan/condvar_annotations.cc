// Tells ThreadSanitizer that absl::CondVar's waits give the mutex up and take it again. Signalling orders nothing by
// itself, so it needs no annotation.
#include <absl/base/config.h>
#include <absl/time/time.h>

#include "third_party/tsan/mutex_annotations.h"

namespace absl {
ABSL_NAMESPACE_BEGIN

using ::weightstream::tsan::AnnotateWait;
using ::weightstream::tsan::NextFunction;

void CondVar::Wait(Mutex* mu) {
  static NextFunction<void(CondVar*, Mutex*)> next("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
  AnnotateWait(mu, [&] { next(this, mu); });
}

bool CondVar::WaitWithTimeout(Mutex* mu, Duration timeout) {
  static NextFunction<bool(CondVar*, Mutex*, Duration)> next(
      "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  return AnnotateWait(mu, [&] { return next(this, mu, timeout); });
}

bool CondVar::WaitWithDeadline(Mutex* mu, Time deadline) {
  static NextFunction<bool(CondVar*, Mutex*, Time)> next(
      "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  return AnnotateWait(mu, [&] { return next(this, mu, deadline); });
}

ABSL_NAMESPACE_END
}  // namespace absl
