// A thread that does things later, in batches and out of order: what a GPU's copy engines look like from outside.
#ifndef WEIGHTSTREAM_KERNELS_COPY_QUEUE_H_
#define WEIGHTSTREAM_KERNELS_COPY_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightstream {

// Runs each job once, on one thread of its own, `latency` after it came in or later. All jobs that are due form a
// batch, in an order drawn from `seed`. Thread-safe. Jobs may add jobs. Destruction waits for every job, those added
// meanwhile too.
class CopyQueue {
 public:
  using Job = std::function<void()>;

  CopyQueue(absl::Duration latency, uint64_t seed);
  ~CopyQueue();
  CopyQueue(const CopyQueue&) = delete;
  CopyQueue& operator=(const CopyQueue&) = delete;

  void Add(Job job);

 private:
  struct TimedJob {
    // By the clock that does not jump.
    absl::Duration due;
    Job job;
  };

  void Work();
  // The jobs that are due, once there are any; none once the queue has ended.
  std::vector<Job> TakeBatch();
  bool HasJobOrEnds() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !jobs_.empty() || ending_; }

  const absl::Duration latency_;
  // Used by the thread only.
  std::mt19937_64 random_;
  absl::Mutex mutex_;
  // In the order of `due`.
  std::deque<TimedJob> jobs_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  // Last, so that it starts when the rest is there.
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_COPY_QUEUE_H_
