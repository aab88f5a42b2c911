// Whether a chunk fits the update that it claims to belong to.
#ifndef WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_
#define WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "proto/chunk_codec.h"
#include "server/range_tracker.h"
#include "server/update.h"

namespace weightstream {

struct CheckedChunk {
  // What the payload holds, in its order: a part of the named tensor, then, in a packed chunk, whole ones.
  absl::InlinedVector<TensorRange, 1> parts;
  // Of the payload.
  uint64_t bytes = 0;
  uint32_t crc32c = 0;
};

// INVALID_ARGUMENT for an unknown tensor, a dtype or shape that contradicts the manifest, a range past the tensor's
// end, tensors that follow with more or less data than they have, or no checksum; RESOURCE_EXHAUSTED for more bytes
// than the update's bucket limit. Trusts nothing in the header.
absl::StatusOr<CheckedChunk> CheckChunk(const Update& update, const ChunkHeader& header, uint64_t data_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_
