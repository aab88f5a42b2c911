#include "kernels/extent_gate.h"

namespace weightstream {

ExtentGate::ExtentGate(uint64_t extents) : states_(new std::atomic<State>[extents]()) {}

absl::Status ExtentGate::Pass(uint64_t begin, uint64_t end, absl::FunctionRef<absl::Status(uint64_t)> work) {
  for (uint64_t extent = begin; extent < end; ++extent) {
    // Acquire pairs with the release in Finish: what the work did is visible here.
    if (states_[extent].load(std::memory_order_acquire) == State::kDone) continue;
    if (!Claim(extent)) continue;
    absl::Status status = work(extent);
    Finish(extent, status.ok());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool ExtentGate::IsDone(uint64_t begin, uint64_t end) const {
  for (uint64_t extent = begin; extent < end; ++extent) {
    if (states_[extent].load(std::memory_order_acquire) != State::kDone) return false;
  }
  return true;
}

bool ExtentGate::Claim(uint64_t extent) {
  absl::MutexLock lock(&mutex_);
  while (states_[extent].load(std::memory_order_relaxed) == State::kInWork) finished_.Wait(&mutex_);
  if (states_[extent].load(std::memory_order_relaxed) == State::kDone) return false;
  states_[extent].store(State::kInWork, std::memory_order_relaxed);
  return true;
}

void ExtentGate::Finish(uint64_t extent, bool done) {
  absl::MutexLock lock(&mutex_);
  states_[extent].store(done ? State::kDone : State::kUntouched, std::memory_order_release);
  finished_.SignalAll();
}

}  // namespace weightstream
