#include "client/command/rate_meter.h"

namespace weightstream::command {
namespace {

// Long enough to be calm to read, short enough to show a stall.
constexpr absl::Duration kWindow = absl::Seconds(5);
// Samples closer than this are merged: it bounds the queue at a hundred.
constexpr absl::Duration kSpacing = absl::Milliseconds(50);

}  // namespace

double BytesPerSecond(uint64_t bytes, absl::Duration time) {
  return time > absl::ZeroDuration() ? static_cast<double>(bytes) / absl::ToDoubleSeconds(time) : 0;
}

void RateMeter::Add(absl::Time now, uint64_t bytes) {
  if (!samples_.empty() && bytes < samples_.back().bytes) samples_.clear();
  // The newest sample may move; the first one is the anchor and may not.
  if (samples_.size() > 1 && now - samples_[samples_.size() - 2].time < kSpacing) {
    samples_.back() = {now, bytes};
  } else {
    samples_.push_back({now, bytes});
  }
  while (samples_.size() > 2 && samples_[1].time <= now - kWindow) samples_.pop_front();
}

double RateMeter::BytesPerSecond(absl::Time now) const {
  if (samples_.empty()) return 0;
  // The last sample at or before the window's begin counts as the bytes at its begin.
  size_t first = 0;
  while (first + 1 < samples_.size() && samples_[first + 1].time <= now - kWindow) ++first;
  const absl::Duration span = now - samples_[first].time;
  if (span < kSpacing) return 0;
  return command::BytesPerSecond(samples_.back().bytes - samples_[first].bytes, span);
}

}  // namespace weightstream::command
