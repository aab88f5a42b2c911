// A reason to stop, given once, that ends waits and calls.
#ifndef WEIGHTSTREAM_CLIENT_STOP_SIGNAL_H_
#define WEIGHTSTREAM_CLIENT_STOP_SIGNAL_H_

#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

// The first cause wins, so that what is reported is what happened first, never the cancellations that it led to.
// Thread-safe.
class StopSignal {
 public:
  using Callback = std::function<void(const absl::Status& cause)>;

  // Hears of the stop for as long as it lives: at once if it has come already. The callback runs under the signal's
  // lock, so that it is never under way after the listener's destruction; it must be short and must not touch this
  // signal. Locks are taken from parent to child signal.
  class Listener {
   public:
    Listener(StopSignal& signal, Callback callback);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

   private:
    friend class StopSignal;
    StopSignal& signal_;
    const Callback callback_;
  };

  StopSignal() = default;
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Requires an error. Later calls have no effect.
  void Stop(absl::Status cause) ABSL_LOCKS_EXCLUDED(mutex_);

  bool stopped() const ABSL_LOCKS_EXCLUDED(mutex_);
  // OK as long as it has not stopped.
  absl::Status cause() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until the stop, at most for `duration`; true if it has come.
  bool WaitFor(absl::Duration duration) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool HasCause() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !cause_.ok(); }

  mutable absl::Mutex mutex_;
  mutable MonotonicCondVar stopped_;
  absl::Status cause_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Listener*> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_STOP_SIGNAL_H_
