#include "client/stall_watch.h"

#include "absl/strings/str_cat.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

StallWatch::Guard::Guard(StallWatch& watch, StopSignal& signal, absl::Duration limit) : watch_(watch) {
  absl::MutexLock lock(&watch_.mutex_);
  watch_.signal_ = &signal;
  watch_.limit_ = limit;
  watch_.seen_ticks_ = watch_.ticks_.load(std::memory_order_relaxed);
  watch_.last_progress_ = MonotonicNow();
}

StallWatch::Guard::~Guard() {
  absl::MutexLock lock(&watch_.mutex_);
  watch_.signal_ = nullptr;
}

void StallWatch::Check(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  if (signal_ == nullptr) return;
  const uint64_t ticks = ticks_.load(std::memory_order_relaxed);
  if (ticks != seen_ticks_) {
    seen_ticks_ = ticks;
    last_progress_ = now;
    return;
  }
  if (now - last_progress_ < limit_) return;
  signal_->Stop(absl::DeadlineExceededError(absl::StrCat("no progress for ", absl::FormatDuration(limit_))));
}

absl::Duration StallWatch::last_progress() const {
  absl::MutexLock lock(&mutex_);
  return last_progress_;
}

}  // namespace weightstream
