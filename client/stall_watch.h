// Notices that a transfer has come to a halt, and stops it.
#ifndef WEIGHTSTREAM_CLIENT_STALL_WATCH_H_
#define WEIGHTSTREAM_CLIENT_STALL_WATCH_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/stop_signal.h"

namespace weightstream {

// One party ticks as data move; another checks from time to time. Thread-safe. Its lock is taken before the signal's.
class StallWatch {
 public:
  // While it lives, `limit` without a tick stops `signal` with DEADLINE_EXCEEDED "no progress for ...". One at a time.
  class Guard {
   public:
    Guard(StallWatch& watch, StopSignal& signal, absl::Duration limit);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    StallWatch& watch_;
  };

  void Tick() { ticks_.fetch_add(1, std::memory_order_relaxed); }

  // `now` is MonotonicNow().
  void Check(absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);

  // When Check last saw progress (or a guard began), on the monotonic clock.
  absl::Duration last_progress() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  std::atomic<uint64_t> ticks_ = 0;
  mutable absl::Mutex mutex_;
  StopSignal* signal_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Duration limit_ ABSL_GUARDED_BY(mutex_);
  uint64_t seen_ticks_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration last_progress_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_STALL_WATCH_H_
