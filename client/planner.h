// Cuts what a server misses into chunks and deals them out to its connections.
#ifndef WEIGHTSTREAM_CLIENT_PLANNER_H_
#define WEIGHTSTREAM_CLIENT_PLANNER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/manifest_index.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"

namespace weightstream {

// One chunk to send: bytes of the source's tensor number `tensor`; of a packed chunk all of it, and of those that
// follow.
struct PlannedChunk {
  uint32_t tensor = 0;
  ByteRange range;
  std::vector<uint32_t> followed_by = {};

  friend bool operator==(const PlannedChunk&, const PlannedChunk&) = default;
};

// What of one tensor is to be sent.
struct MissingTensor {
  uint32_t tensor = 0;
  ByteRanges ranges;
  // In the order of the server's layout: each has its own, below the number of tensors. Used where tensors are packed.
  uint32_t place = 0;
};

// Deals out chunks in the order of the source, one after the other, to whichever connection asks next: so that all read
// the same neighbourhood of the source and write the same neighbourhood of the target, and a slow connection simply
// takes fewer. Memory does not depend on the number of chunks. Thread-safe.
//
// Chunks are never empty and at most `chunk_bytes` long. Inside a range they end between elements, and where
// chunk_bytes allows it on a multiple of 4 KiB of the tensor, so that copies are aligned. A chunk limit smaller than an
// element cuts elements: the wire allows it.
//
// Small tensors that are missing whole come last, several packed into each chunk, in the order in which a server lays
// them out: a chunk costs some microseconds at both ends, however little it carries.
class ChunkPlan {
 public:
  // `missing` by ascending tensor; ranges ascending and within their tensor. `tensors` outlive the plan. Requires
  // chunk_bytes > 0. Without `pack` each chunk is of one tensor.
  ChunkPlan(absl::Span<const TensorSpec> tensors, std::vector<MissingTensor> missing, uint64_t chunk_bytes, bool pack);
  // Of all that the tensors hold. `index` outlives the plan.
  ChunkPlan(const ManifestIndex& index, uint64_t chunk_bytes, bool pack);

  // The next chunk, or nothing once all were dealt out.
  absl::optional<PlannedChunk> Next() ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t total_chunks() const { return total_chunks_; }

 private:
  // A range to send, and the multiple on which its chunks end.
  struct Piece {
    uint32_t tensor = 0;
    ByteRange range;
    uint64_t grid = 1;
  };

  // The bytes up to which a tensor is packed.
  uint64_t SmallBytes(bool pack) const;
  void AddPieces(const TensorSpec& spec, uint32_t tensor, absl::Span<const ByteRange> ranges);
  // Brings the small tensors into the server's order: by counting, since sorting 100,000 takes longer than the rest.
  void OrderSmall(size_t tensors);
  // Marks where each pack of them ends.
  void Pack(absl::Span<const TensorSpec> tensors);
  absl::optional<PlannedChunk> NextPack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t EndOfChunk(uint64_t begin, const Piece& piece) const;
  uint64_t CountChunks(const Piece& piece) const;

  const uint64_t chunk_bytes_;
  std::vector<Piece> pieces_;
  struct SmallTensor {
    uint32_t place = 0;
    uint32_t tensor = 0;
    uint64_t bytes = 0;
  };
  std::vector<SmallTensor> small_;
  // Indices in small_, one past each pack's last.
  std::vector<size_t> pack_ends_;
  uint64_t total_bytes_ = 0;
  uint64_t total_chunks_ = 0;

  absl::Mutex mutex_;
  size_t next_piece_ ABSL_GUARDED_BY(mutex_) = 0;
  // Bytes of the next piece that were dealt out.
  uint64_t dealt_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t next_pack_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PLANNER_H_
