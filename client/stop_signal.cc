#include "client/stop_signal.h"

#include <utility>

namespace weightstream {

StopSignal::Listener::Listener(StopSignal& signal, Callback callback)
    : signal_(signal), callback_(std::move(callback)) {
  absl::MutexLock lock(&signal_.mutex_);
  signal_.listeners_.insert(this);
  if (!signal_.cause_.ok()) callback_(signal_.cause_);
}

StopSignal::Listener::~Listener() {
  absl::MutexLock lock(&signal_.mutex_);
  signal_.listeners_.erase(this);
}

void StopSignal::Stop(absl::Status cause) {
  absl::MutexLock lock(&mutex_);
  if (!cause_.ok() || cause.ok()) return;
  cause_ = std::move(cause);
  stopped_.SignalAll();
  for (Listener* listener : listeners_) listener->callback_(cause_);
}

bool StopSignal::stopped() const {
  absl::MutexLock lock(&mutex_);
  return HasCause();
}

absl::Status StopSignal::cause() const {
  absl::MutexLock lock(&mutex_);
  return cause_;
}

bool StopSignal::WaitFor(absl::Duration duration) const {
  absl::MutexLock lock(&mutex_);
  return stopped_.AwaitFor(mutex_, duration, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return HasCause(); });
}

}  // namespace weightstream
