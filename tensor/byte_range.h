// Half-open ranges of bytes, and sets of them.
#ifndef WEIGHTSTREAM_TENSOR_BYTE_RANGE_H_
#define WEIGHTSTREAM_TENSOR_BYTE_RANGE_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"

namespace weightstream {

// Bytes [begin, end) of something. Requires begin <= end.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t size() const { return end - begin; }
  bool empty() const { return begin == end; }

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// Most lists have one: it costs no allocation, and there may be 100,000 of them.
using ByteRanges = absl::InlinedVector<ByteRange, 1>;

// A set of bytes, kept as disjoint, ascending, non-adjacent ranges. Small sets of few ranges are the common case: a
// tensor that lands in order is one range, whatever its size. Not thread-safe.
//
// Add and Remove take time linear in the ranges that they touch plus a move of those behind (a sorted vector).
class ByteRangeSet {
 public:
  ByteRangeSet() = default;
  // Starts as one range (or none, if it is empty).
  explicit ByteRangeSet(ByteRange range);

  // Adds every byte of `range`. Returns how many were not in the set before.
  uint64_t Add(ByteRange range);

  // Removes every byte of `range`. Returns how many were in the set before.
  uint64_t Remove(ByteRange range);

  // True if every byte of `range` is in the set; true for an empty range.
  bool Contains(ByteRange range) const;

  // True if at least one byte of `range` is in the set.
  bool Intersects(ByteRange range) const;

  // The parts of `range` that are in the set, ascending; and those that are not.
  ByteRanges Intersection(ByteRange range) const;
  ByteRanges Difference(ByteRange range) const;

  const ByteRanges& ranges() const { return ranges_; }
  uint64_t bytes() const { return bytes_; }
  bool empty() const { return ranges_.empty(); }

  friend bool operator==(const ByteRangeSet&, const ByteRangeSet&) = default;

 private:
  ByteRanges ranges_;
  uint64_t bytes_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_BYTE_RANGE_H_
