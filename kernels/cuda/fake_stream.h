// A stream of the fake CUDA runtime: a thread that does the work of one stream, in order. For tests.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_FAKE_STREAM_H_
#define WEIGHTSTREAM_KERNELS_CUDA_FAKE_STREAM_H_

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {

// Destruction waits for all that was added. Thread-safe.
class FakeCudaStream {
 public:
  FakeCudaStream() : thread_([this] { Work(); }) {}
  ~FakeCudaStream() {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    thread_.join();
  }
  FakeCudaStream(const FakeCudaStream&) = delete;
  FakeCudaStream& operator=(const FakeCudaStream&) = delete;

  void Add(std::function<void()> work) {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(work));
  }

  // Waits until all that was added is done.
  void Synchronize() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &FakeCudaStream::Idle));
  }

 private:
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return queue_.empty() && !working_; }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || ending_; }

  void Work() {
    for (;;) {
      std::function<void()> work;
      {
        absl::MutexLock lock(&mutex_);
        working_ = false;
        mutex_.Await(absl::Condition(this, &FakeCudaStream::HasWork));
        if (queue_.empty()) return;
        work = std::move(queue_.front());
        queue_.pop_front();
        working_ = true;
      }
      work();
    }
  }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_FAKE_STREAM_H_
