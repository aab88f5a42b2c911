#include "server/range_tracker.h"

#include <cassert>

namespace weightstream {

RangeTracker::RangeTracker(absl::Span<const PlacedTensor> tensors) {
  tensors_.reserve(tensors.size());
  uint64_t fragments = 0;
  for (const PlacedTensor& tensor : tensors) {
    const bool empty = tensor.range.empty();
    tensors_.push_back({tensor.range.size(), empty ? State::kLanded : State::kMissing});
    total_bytes_ += tensor.range.size();
    fragments += empty ? 0 : 1;
  }
  fragments_ = fragments;
}

RangeTracker::Cut& RangeTracker::CutOf(uint32_t tensor) {
  Tensor& whole = tensors_[tensor];
  Cut& cut = cut_[tensor];
  if (whole.state == State::kMissing) cut.missing = ByteRangeSet({0, whole.bytes});
  if (whole.state == State::kClaimed) cut.claimed = ByteRangeSet({0, whole.bytes});
  whole.state = State::kCut;
  return cut;
}

std::vector<TensorRange> RangeTracker::Claim(absl::Span<const TensorRange> wanted) {
  std::vector<TensorRange> claimed;
  claimed.reserve(wanted.size());
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& one : wanted) {
    Tensor& whole = tensors_[one.tensor];
    if (one.range.empty() || whole.state == State::kClaimed || whole.state == State::kLanded) continue;
    if (whole.state == State::kMissing && whole.is(one.range)) {
      whole.state = State::kClaimed;
      claimed.push_back(one);
      continue;
    }
    Cut& cut = CutOf(one.tensor);
    const uint64_t before = cut.fragments();
    for (const ByteRange& part : cut.missing.Intersection(one.range)) {
      cut.missing.Remove(part);
      cut.claimed.Add(part);
      claimed.push_back({one.tensor, part});
    }
    // Unsigned arithmetic wraps: a fall adds as much as it should.
    fragments_ += cut.fragments() - before;
  }
  return claimed;
}

void RangeTracker::Land(absl::Span<const TensorRange> claimed) {
  uint64_t landed = 0;
  uint64_t whole_ones = 0;
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& part : claimed) {
    Tensor& whole = tensors_[part.tensor];
    if (whole.state != State::kClaimed || !whole.is(part.range)) {
      landed += LandPart(part);
      continue;
    }
    whole.state = State::kLanded;
    landed += whole.bytes;
    ++whole_ones;
  }
  fragments_ -= whole_ones;
  landed_bytes_.fetch_add(landed, std::memory_order_release);
}

uint64_t RangeTracker::LandPart(const TensorRange& part) {
  Cut& cut = CutOf(part.tensor);
  const uint64_t before = cut.fragments();
  const uint64_t removed = cut.claimed.Remove(part.range);
  assert(removed == part.range.size());
  fragments_ += cut.fragments() - before;
  if (cut.fragments() == 0) {
    tensors_[part.tensor].state = State::kLanded;
    cut_.erase(part.tensor);
  }
  return removed;
}

void RangeTracker::Release(absl::Span<const TensorRange> claimed) {
  absl::MutexLock lock(&mutex_);
  for (const TensorRange& part : claimed) {
    Tensor& whole = tensors_[part.tensor];
    if (whole.state == State::kClaimed && whole.is(part.range)) {
      whole.state = State::kMissing;
      continue;
    }
    Cut& cut = CutOf(part.tensor);
    const uint64_t before = cut.fragments();
    cut.claimed.Remove(part.range);
    cut.missing.Add(part.range);
    fragments_ += cut.fragments() - before;
  }
}

std::vector<RangeTracker::TensorMissing> RangeTracker::Missing() const {
  std::vector<TensorMissing> all;
  absl::MutexLock lock(&mutex_);
  for (uint32_t i = 0; i < tensors_.size(); ++i) {
    const Tensor& whole = tensors_[i];
    if (whole.state == State::kLanded) continue;
    if (whole.state != State::kCut) {
      all.push_back({i, {{0, whole.bytes}}});
      continue;
    }
    const Cut& cut = cut_.at(i);
    ByteRangeSet not_landed = cut.missing;
    for (const ByteRange& part : cut.claimed.ranges()) not_landed.Add(part);
    all.push_back({i, not_landed.ranges()});
  }
  return all;
}

}  // namespace weightstream
