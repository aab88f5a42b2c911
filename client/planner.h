// Cuts what a server misses into chunks and deals them out to its connections.
#ifndef WEIGHTSTREAM_CLIENT_PLANNER_H_
#define WEIGHTSTREAM_CLIENT_PLANNER_H_

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"

namespace weightstream {

// One chunk to send: bytes of the source's tensor number `tensor`.
struct PlannedChunk {
  uint32_t tensor = 0;
  ByteRange range;

  friend bool operator==(const PlannedChunk&, const PlannedChunk&) = default;
};

// What of one tensor is to be sent.
struct MissingTensor {
  uint32_t tensor = 0;
  std::vector<ByteRange> ranges;
};

// Deals out chunks in the order of the source, one after the other, to whichever connection asks next: so that all read the same
// neighbourhood of the source and write the same neighbourhood of the target, and a slow connection simply takes fewer. Memory does
// not depend on the number of chunks. Thread-safe.
//
// Chunks are at most `chunk_bytes` long, and end between elements, and where possible on a multiple of 4 KiB of the tensor, so that
// copies are aligned. A chunk limit smaller than an element cuts elements: the wire allows it.
class ChunkPlan {
 public:
  // `missing` by ascending tensor; ranges ascending and within their tensor. Requires chunk_bytes > 0.
  ChunkPlan(absl::Span<const TensorSpec> tensors, std::vector<MissingTensor> missing, uint64_t chunk_bytes);

  // The next chunk, or nothing once all were dealt out.
  absl::optional<PlannedChunk> Next() ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t total_chunks() const { return total_chunks_; }

 private:
  absl::Mutex mutex_;
  uint64_t total_bytes_ = 0;
  uint64_t total_chunks_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PLANNER_H_
