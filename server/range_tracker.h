// Which bytes of an update are still missing, which are being written, and which have landed.
#ifndef WEIGHTSTREAM_SERVER_RANGE_TRACKER_H_
#define WEIGHTSTREAM_SERVER_RANGE_TRACKER_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "tensor/byte_range.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// Bytes of one tensor, by its index in the layout.
struct TensorRange {
  uint32_t tensor = 0;
  ByteRange range;

  friend bool operator==(const TensorRange&, const TensorRange&) = default;
};

// Each byte of each tensor is in one of three states:
//
//   missing --Claim--> claimed --Land--> landed
//      ^                  |
//      +-----Release------+
//
// A byte is written only by whoever claimed it, so a repeated chunk, however wrong, can never touch a byte that has
// landed, and two streams that bring the same range at once never write the same byte. What has landed never goes back.
// Thread-safe.
class RangeTracker {
 public:
  explicit RangeTracker(absl::Span<const PlacedTensor> tensors);

  // Claims what of `wanted` is neither claimed nor landed, and returns it: in the order of `wanted`, ascending in each.
  // Empty if there is nothing.
  std::vector<TensorRange> Claim(absl::Span<const TensorRange> wanted) ABSL_LOCKS_EXCLUDED(mutex_);

  // The claimed ranges are in the target and their checksum was right.
  void Land(absl::Span<const TensorRange> claimed) ABSL_LOCKS_EXCLUDED(mutex_);

  // The claimed ranges could not be brought in: they are missing again.
  void Release(absl::Span<const TensorRange> claimed) ABSL_LOCKS_EXCLUDED(mutex_);

  struct TensorMissing {
    uint32_t tensor = 0;
    ByteRanges ranges;
  };
  // Everything that has not landed (what is claimed counts as missing), by ascending tensor.
  std::vector<TensorMissing> Missing() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Pieces into which what is missing and claimed has been cut. A sender that jumps about can make it grow, and each
  // operation takes time in proportion: ChunkLander keeps it within bounds.
  uint64_t fragments() const { return fragments_.load(std::memory_order_relaxed); }

  uint64_t landed_bytes() const { return landed_bytes_.load(std::memory_order_acquire); }
  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t missing_bytes() const { return total_bytes_ - landed_bytes(); }

 private:
  // Of a tensor as a whole: a byte each, since there may be 100,000 that are never cut. kCut: see cut_.
  enum class State : uint8_t { kMissing, kClaimed, kLanded, kCut };

  struct Tensor {
    uint64_t bytes = 0;
    State state = State::kMissing;

    bool is(const ByteRange& range) const { return range == ByteRange{0, bytes}; }
  };

  // Of a tensor whose bytes are not all in one state.
  struct Cut {
    ByteRangeSet missing;
    ByteRangeSet claimed;

    uint64_t fragments() const { return missing.ranges().size() + claimed.ranges().size(); }
  };

  // The tensor's pieces; it counts as cut from here on, until all of it has landed. It has not landed yet.
  Cut& CutOf(uint32_t tensor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns how many bytes that are.
  uint64_t LandPart(const TensorRange& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::vector<Tensor> tensors_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint32_t, Cut> cut_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> fragments_{0};
  std::atomic<uint64_t> landed_bytes_{0};
  uint64_t total_bytes_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_RANGE_TRACKER_H_
