// Whether a chunk fits the update that it claims to belong to.
#ifndef WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_
#define WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/chunk_codec.h"
#include "server/update.h"
#include "tensor/byte_range.h"

namespace weightstream {

struct CheckedChunk {
  // Index in the update's layout.
  uint32_t tensor = 0;
  // Bytes of the tensor.
  ByteRange range;
  uint32_t crc32c = 0;
};

// INVALID_ARGUMENT for an unknown tensor, a dtype or shape that contradicts the manifest, a range past the tensor's
// end, or no checksum; RESOURCE_EXHAUSTED for more bytes than the update's bucket limit. Trusts nothing in the header.
absl::StatusOr<CheckedChunk> CheckChunk(const Update& update, const ChunkHeader& header, uint64_t data_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_CHUNK_CHECK_H_
