#include "server/range_tracker.h"

#include <cassert>

namespace weightstream {

RangeTracker::RangeTracker(absl::Span<const PlacedTensor> tensors) {
  tensors_.reserve(tensors.size());
  for (const PlacedTensor& tensor : tensors) {
    tensors_.push_back({ByteRangeSet({0, tensor.range.size()}), ByteRangeSet()});
    total_bytes_ += tensor.range.size();
    fragments_ += tensors_.back().fragments();
  }
}

std::vector<ByteRange> RangeTracker::Claim(uint32_t tensor, ByteRange range) {
  absl::MutexLock lock(&mutex_);
  TensorState& state = tensors_[tensor];
  const uint64_t before = state.fragments();
  std::vector<ByteRange> claimed = state.missing.Intersection(range);
  for (const ByteRange& part : claimed) {
    state.missing.Remove(part);
    state.claimed.Add(part);
  }
  // Unsigned arithmetic wraps: a fall adds as much as it should.
  fragments_ += state.fragments() - before;
  return claimed;
}

void RangeTracker::Land(uint32_t tensor, absl::Span<const ByteRange> claimed) {
  absl::MutexLock lock(&mutex_);
  TensorState& state = tensors_[tensor];
  const uint64_t before = state.fragments();
  for (const ByteRange& part : claimed) {
    const uint64_t removed = state.claimed.Remove(part);
    assert(removed == part.size());
    landed_bytes_.fetch_add(removed, std::memory_order_release);
  }
  fragments_ += state.fragments() - before;
}

void RangeTracker::Release(uint32_t tensor, absl::Span<const ByteRange> claimed) {
  absl::MutexLock lock(&mutex_);
  TensorState& state = tensors_[tensor];
  const uint64_t before = state.fragments();
  for (const ByteRange& part : claimed) {
    state.claimed.Remove(part);
    state.missing.Add(part);
  }
  fragments_ += state.fragments() - before;
}

std::vector<RangeTracker::TensorMissing> RangeTracker::Missing() const {
  std::vector<TensorMissing> all;
  absl::MutexLock lock(&mutex_);
  for (uint32_t i = 0; i < tensors_.size(); ++i) {
    const TensorState& state = tensors_[i];
    if (state.missing.empty() && state.claimed.empty()) continue;
    ByteRangeSet not_landed = state.missing;
    for (const ByteRange& part : state.claimed.ranges()) not_landed.Add(part);
    all.push_back({i, not_landed.ranges()});
  }
  return all;
}

}  // namespace weightstream
