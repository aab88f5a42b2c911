// WeightChunk to and from grpc::ByteBuffer without a copy of the payload, wire-compatible with the generated code.
//
// Sending: one slice with the serialised header and the data's tag and length, one slice that borrows the tensor's bytes.
// Receiving: the header is parsed in place and the payload is handed out as the pieces of the slices that gRPC received, some
// 17 a MiB, so that the one copy that must be made goes straight to where the bytes belong.
//
// The wire format is protobuf's (developers.google.com/protocol-buffers/docs/encoding). The parser restores what the generated one
// gives: any order of fields, the last of a repeated singular field, packed and unpacked shapes, unknown fields skipped, UTF-8
// checked, every length checked against what is there.
#ifndef WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_
#define WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace weightstream {

// Most bytes that a chunk's message takes beyond its payload: what a receiver adds to the bucket limit to size messages.
inline constexpr uint64_t kMaxChunkHeaderBytes = 64 << 10;

// Everything of a WeightChunk but its data. Field meanings and limits: weightstream.proto.
struct ChunkHeader {
  std::string name;
  absl::InlinedVector<uint64_t, 8> shape;
  std::string dtype;
  uint64_t offset = 0;
  absl::optional<uint32_t> crc32c;
  std::string update_id;

  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

// A received chunk. Reusable: Parse again keeps the capacity of strings and vectors, so that the steady state allocates
// nothing. Not thread-safe.
class ReceivedChunk {
 public:
  // Takes over the buffer's slices. INVALID_ARGUMENT says what is malformed and where (byte offset, field); the object then holds
  // no chunk. Needs no trust in the input: never reads outside it, allocates no more than a small multiple of what is there.
  absl::Status Parse(grpc::ByteBuffer& message);

  const ChunkHeader& header() const { return header_; }
  // The data, in order; views into slices that live until the next Parse or destruction. No empty pieces.
  absl::Span<const absl::string_view> pieces() const { return pieces_; }
  uint64_t data_bytes() const { return data_bytes_; }

 private:
  ChunkHeader header_;
  std::vector<grpc::Slice> slices_;
  std::vector<absl::string_view> pieces_;
  uint64_t data_bytes_ = 0;
};

// Serialises a chunk whose data are borrowed: `data` must stay unchanged until `released` is called, once, on any thread, when
// gRPC needs the bytes no more. That is the only sign: the return of Write() is not. `released` must not block. An empty
// callback is allowed where the bytes outlive every channel. Where data are empty, `released` is called before the return.
grpc::ByteBuffer EncodeChunk(const ChunkHeader& header, absl::string_view data, std::function<void()> released);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_
