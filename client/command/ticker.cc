#include "client/command/ticker.h"

#include <utility>

namespace weightstream::command {

Ticker::Ticker(absl::Duration interval, std::function<void()> tick)
    : interval_(interval), tick_(std::move(tick)), thread_([this] { Run(); }) {}

void Ticker::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    stop_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Ticker::Run() {
  const auto stopped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopped_; };
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (stop_.AwaitFor(mutex_, interval_, stopped)) return;
    }
    tick_();
  }
}

}  // namespace weightstream::command
