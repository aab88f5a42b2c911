#include "tensor/monotonic_cond_var.h"

#include <chrono>

namespace weightstream {
namespace {

// What the standard library calls a lock.
class Lockable {
 public:
  explicit Lockable(absl::Mutex& mutex) : mutex_(mutex) {}
  void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Lock(); }
  void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Unlock(); }

 private:
  absl::Mutex& mutex_;
};

}  // namespace

bool MonotonicCondVar::WaitUntil(absl::Mutex& mutex, absl::Duration deadline) {
  if (deadline <= MonotonicNow()) return false;
  Lockable lockable(mutex);
  const std::chrono::steady_clock::time_point until(absl::ToChronoNanoseconds(deadline));
  return cond_var_.wait_until(lockable, until) == std::cv_status::no_timeout;
}

}  // namespace weightstream
