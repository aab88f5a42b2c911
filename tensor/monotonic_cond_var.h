// A condition variable whose waits follow the clock that does not jump.
//
// Abseil's waits end at a moment of the wall clock: set back by an hour while one is under way, it lasts an hour
// longer, and set forward it ends at once. So a wait with a limit uses this instead of absl::CondVar or
// Mutex::AwaitWithTimeout; one without may use either.
//
//   absl::MutexLock lock(&mutex_);
//   const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return copies_ == 0; };
//   if (!changed_.AwaitFor(mutex_, patience, done)) return absl::DeadlineExceededError(...);
#ifndef WEIGHTSTREAM_TENSOR_MONOTONIC_COND_VAR_H_
#define WEIGHTSTREAM_TENSOR_MONOTONIC_COND_VAR_H_

#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

// Thread-safe. Whoever changes what others wait for signals before it lets go of the mutex: the one that waits may
// destroy this object as soon as it has the mutex.
class MonotonicCondVar {
 public:
  // Lets go of `mutex`, waits for a signal until MonotonicNow() is `deadline`, and takes the mutex again. False once
  // that moment has come. May return true without a signal.
  bool WaitUntil(absl::Mutex& mutex, absl::Duration deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Waits until `holds()`, which is asked under the mutex at first and after each signal; false if it does not hold
  // after `limit`.
  template <typename Predicate>
  bool AwaitFor(absl::Mutex& mutex, absl::Duration limit, Predicate holds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const absl::Duration deadline = MonotonicNow() + limit;
    while (!holds()) {
      if (!WaitUntil(mutex, deadline)) return holds();
    }
    return true;
  }

  // Wakes one that waits: enough where each that wakes takes what it finds, and all wait for the same.
  void Signal() { cond_var_.notify_one(); }
  void SignalAll() { cond_var_.notify_all(); }

 private:
  // Over a condition variable of the C library, which has waits by CLOCK_MONOTONIC.
  std::condition_variable_any cond_var_;  // lint-allow(abseil-locks): of this alone.
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_MONOTONIC_COND_VAR_H_
