// Tells ThreadSanitizer that absl::Notification::Notify happens before whatever follows a wait or a true
// HasBeenNotified(). The waits have a fast path without the mutex, so the mutex's annotations do not cover them.
#include <absl/base/config.h>
#include <absl/synchronization/notification.h>
#include <absl/time/time.h>

#include "third_party/tsan/annotated_call.h"

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

using ::weightstream::tsan::NextFunction;

// HasBeenNotified() is inline and loads the flag that follows the mutex: instrumented code acquires that address.
void* FlagAddress(const Notification* notification) {
  static_assert(sizeof(Notification) == 2 * sizeof(Mutex), "Notification is no longer a mutex and then a flag");
  return const_cast<char*>(reinterpret_cast<const char*>(notification)) + sizeof(Mutex);
}

bool AcquireIf(bool notified, const Notification* notification) {
  if (notified) __tsan_acquire(FlagAddress(notification));
  return notified;
}

}  // namespace

void Notification::Notify() {
  static NextFunction<void(Notification*)> next("_ZN4absl7debian312Notification6NotifyEv");
  __tsan_release(FlagAddress(this));
  next(this);
}

void Notification::WaitForNotification() const {
  static NextFunction<void(const Notification*)> next("_ZNK4absl7debian312Notification19WaitForNotificationEv");
  next(this);
  AcquireIf(true, this);
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static NextFunction<bool(const Notification*, Duration)> next(
      "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  return AcquireIf(next(this, timeout), this);
}

bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  static NextFunction<bool(const Notification*, Time)> next(
      "_ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE");
  return AcquireIf(next(this, deadline), this);
}

ABSL_NAMESPACE_END
}  // namespace absl
