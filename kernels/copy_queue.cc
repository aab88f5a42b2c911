#include "kernels/copy_queue.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

CopyQueue::CopyQueue(absl::Duration latency, uint64_t seed)
    : latency_(latency), random_(seed), thread_([this] { Work(); }) {}

CopyQueue::~CopyQueue() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
}

void CopyQueue::Add(Job job) {
  absl::MutexLock lock(&mutex_);
  jobs_.push_back({MonotonicNow() + latency_, std::move(job)});
}

void CopyQueue::Work() {
  while (true) {
    std::vector<Job> batch = TakeBatch();
    if (batch.empty()) return;
    // Fisher and Yates, written out: std::shuffle may differ from library to library, and a seed must mean one order.
    for (size_t left = batch.size(); left > 1; --left) std::swap(batch[left - 1], batch[random_() % left]);
    for (Job& job : batch) {
      job();
      // What the job holds is let go before the next one runs, as a device would.
      job = nullptr;
    }
  }
}

std::vector<CopyQueue::Job> CopyQueue::TakeBatch() {
  absl::Duration first_due;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &CopyQueue::HasJobOrEnds));
    if (jobs_.empty()) return {};
    first_due = jobs_.front().due;
  }
  // The latency itself. Whatever comes in meanwhile is due later.
  absl::SleepFor(first_due - MonotonicNow());
  std::vector<Job> batch;
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = std::max(MonotonicNow(), first_due);
  while (!jobs_.empty() && jobs_.front().due <= now) {
    batch.push_back(std::move(jobs_.front().job));
    jobs_.pop_front();
  }
  return batch;
}

}  // namespace weightstream
