#include "tensor/byte_range.h"

#include <algorithm>
#include <cassert>

namespace weightstream {
namespace {

// The ranges are disjoint and ascending, so they are sorted by their ends as well as by their begins: each bound below
// is a binary search.

// The first range that ends at or after `position`: it touches what starts there.
ByteRanges::const_iterator FirstEndingAtOrAfter(const ByteRanges& ranges, uint64_t position) {
  return std::partition_point(ranges.begin(), ranges.end(), [&](const ByteRange& r) { return r.end < position; });
}

// The first range that has a byte at or after `position`.
ByteRanges::const_iterator FirstEndingAfter(const ByteRanges& ranges, uint64_t position) {
  return std::partition_point(ranges.begin(), ranges.end(), [&](const ByteRange& r) { return r.end <= position; });
}

uint64_t OverlapBytes(const ByteRange& a, const ByteRange& b) {
  const uint64_t begin = std::max(a.begin, b.begin);
  const uint64_t end = std::min(a.end, b.end);
  return begin < end ? end - begin : 0;
}

}  // namespace

ByteRangeSet::ByteRangeSet(ByteRange range) { Add(range); }

uint64_t ByteRangeSet::Add(ByteRange range) {
  assert(range.begin <= range.end);
  if (range.empty()) return 0;
  // All that overlap `range` or touch it become one with it.
  const auto first = ranges_.begin() + (FirstEndingAtOrAfter(ranges_, range.begin) - ranges_.cbegin());
  auto last = first;
  ByteRange merged = range;
  uint64_t added = range.size();
  for (; last != ranges_.end() && last->begin <= range.end; ++last) {
    added -= OverlapBytes(*last, range);
    merged.begin = std::min(merged.begin, last->begin);
    merged.end = std::max(merged.end, last->end);
  }
  if (first == last) {
    ranges_.insert(first, merged);
  } else {
    *first = merged;
    ranges_.erase(first + 1, last);
  }
  bytes_ += added;
  return added;
}

uint64_t ByteRangeSet::Remove(ByteRange range) {
  assert(range.begin <= range.end);
  if (range.empty()) return 0;
  const auto first = ranges_.begin() + (FirstEndingAfter(ranges_, range.begin) - ranges_.cbegin());
  auto last = first;
  uint64_t removed = 0;
  // What sticks out of `range` at either side stays: at most one piece before it and one behind.
  ByteRange pieces[2];
  int piece_count = 0;
  for (; last != ranges_.end() && last->begin < range.end; ++last) {
    removed += OverlapBytes(*last, range);
    if (last->begin < range.begin) pieces[piece_count++] = {last->begin, range.begin};
    if (last->end > range.end) pieces[piece_count++] = {range.end, last->end};
  }
  const auto touched = static_cast<int>(std::min<std::ptrdiff_t>(last - first, 2));
  const int overwritten = std::min(touched, piece_count);
  const auto behind = std::copy(pieces, pieces + overwritten, first);
  if (piece_count > overwritten) {
    ranges_.insert(behind, pieces + overwritten, pieces + piece_count);
  } else {
    ranges_.erase(behind, last);
  }
  bytes_ -= removed;
  return removed;
}

bool ByteRangeSet::Contains(ByteRange range) const {
  if (range.empty()) return true;
  const auto it = FirstEndingAfter(ranges_, range.begin);
  return it != ranges_.end() && it->begin <= range.begin && it->end >= range.end;
}

bool ByteRangeSet::Intersects(ByteRange range) const {
  if (range.empty()) return false;
  const auto it = FirstEndingAfter(ranges_, range.begin);
  return it != ranges_.end() && it->begin < range.end;
}

ByteRanges ByteRangeSet::Intersection(ByteRange range) const {
  ByteRanges parts;
  if (range.empty()) return parts;
  for (auto it = FirstEndingAfter(ranges_, range.begin); it != ranges_.end() && it->begin < range.end; ++it) {
    parts.push_back({std::max(it->begin, range.begin), std::min(it->end, range.end)});
  }
  return parts;
}

ByteRanges ByteRangeSet::Difference(ByteRange range) const {
  ByteRanges gaps;
  uint64_t position = range.begin;
  for (const ByteRange& part : Intersection(range)) {
    if (position < part.begin) gaps.push_back({position, part.begin});
    position = part.end;
  }
  if (position < range.end) gaps.push_back({position, range.end});
  return gaps;
}

}  // namespace weightstream
