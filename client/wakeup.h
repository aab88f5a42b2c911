// Wakes the thread that supervises, when there is something to decide.
#ifndef WEIGHTSTREAM_CLIENT_WAKEUP_H_
#define WEIGHTSTREAM_CLIENT_WAKEUP_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

// Thread-safe. A notification before the wait is not lost, and any number of them count as one.
class Wakeup {
 public:
  void Notify() {
    absl::MutexLock lock(&mutex_);
    notified_ = true;
    changed_.Signal();
  }

  // Returns at a notification, at the latest after `limit`.
  void WaitFor(absl::Duration limit) {
    absl::MutexLock lock(&mutex_);
    changed_.AwaitFor(mutex_, limit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return notified_; });
    notified_ = false;
  }

 private:
  absl::Mutex mutex_;
  MonotonicCondVar changed_;
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_WAKEUP_H_
