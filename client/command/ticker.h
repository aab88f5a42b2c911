// A function that is called at an interval from a thread of its own, for what is shown to move when no news come.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_TICKER_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_TICKER_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream::command {

// Thread-safe.
class Ticker {
 public:
  // `tick` is called first after one interval. It must not call Stop, and what it uses must live until Stop returns: as
  // the last member of its owner a ticker starts when the others are there.
  Ticker(absl::Duration interval, std::function<void()> tick);
  ~Ticker() { Stop(); }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

  // Once it has returned, no tick is under way and none will be. May be called twice, by one thread at a time; the
  // caller holds no lock that `tick` takes.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const absl::Duration interval_;
  const std::function<void()> tick_;
  absl::Mutex mutex_;
  MonotonicCondVar stop_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_TICKER_H_
