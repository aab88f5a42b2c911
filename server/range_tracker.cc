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

std::vector<TensorRange> RangeTracker::Claim(absl::Span<const TensorRange> wanted) {
  std::vector<TensorRange> claimed;
  claimed.reserve(wanted.size());
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& one : wanted) {
    TensorState& state = tensors_[one.tensor];
    const uint64_t before = state.fragments();
    for (const ByteRange& part : state.missing.Intersection(one.range)) {
      state.missing.Remove(part);
      state.claimed.Add(part);
      claimed.push_back({one.tensor, part});
    }
    // Unsigned arithmetic wraps: a fall adds as much as it should.
    fragments_ += state.fragments() - before;
  }
  return claimed;
}

void RangeTracker::Land(absl::Span<const TensorRange> claimed) {
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& part : claimed) {
    TensorState& state = tensors_[part.tensor];
    const uint64_t before = state.fragments();
    const uint64_t removed = state.claimed.Remove(part.range);
    assert(removed == part.range.size());
    landed_bytes_.fetch_add(removed, std::memory_order_release);
    fragments_ += state.fragments() - before;
  }
}

void RangeTracker::Release(absl::Span<const TensorRange> claimed) {
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& part : claimed) {
    TensorState& state = tensors_[part.tensor];
    const uint64_t before = state.fragments();
    state.claimed.Remove(part.range);
    state.missing.Add(part.range);
    fragments_ += state.fragments() - before;
  }
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
