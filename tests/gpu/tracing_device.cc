#include "tests/gpu/tracing_device.h"

#include <algorithm>
#include <utility>

#include "tensor/monotonic_clock.h"

namespace weightstream {

std::vector<ActivitySpan> TracingDevice::TakeSpans() {
  std::vector<ActivitySpan> spans;
  {
    absl::MutexLock lock(&mutex_);
    spans.swap(spans_);
    receivers_.clear();
    free_from_.clear();
  }
  return WithCopyLanes(std::move(spans));
}

void TracingDevice::CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) {
  const absl::Duration begin = MonotonicNow();
  NoteReceived(staged.data(), begin);
  traced_->CopyToTarget(staged, target, offset,
                        [this, slot = staged.data(), begin, done = std::move(done)](absl::Status copied) {
                          // Before the slot is free for another thread.
                          NoteCopied(slot, begin);
                          done(std::move(copied));
                        });
  NoteHandedOver();
}

void TracingDevice::NoteReceived(const char* slot, absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  const auto receiver = receivers_.find(std::this_thread::get_id());
  if (receiver == receivers_.end()) return;
  const auto free = free_from_.find(slot);
  absl::Duration begin = receiver->second.handed_over;
  if (free != free_from_.end()) begin = std::max(begin, free->second);
  spans_.push_back({Activity::kReceive, receiver->second.lane, begin, now});
}

void TracingDevice::NoteHandedOver() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  const int lane = static_cast<int>(receivers_.size());
  receivers_.try_emplace(std::this_thread::get_id(), Receiver{lane, now}).first->second.handed_over = now;
}

void TracingDevice::NoteCopied(const char* slot, absl::Duration begin) {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  spans_.push_back({Activity::kCopy, 0, begin, now});
  free_from_[slot] = now;
}

}  // namespace weightstream
