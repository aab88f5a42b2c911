// WeightChunk to and from grpc::ByteBuffer without a copy of the payload, wire-compatible with the generated code.
//
// Sending: one slice with the serialised header and the data's tag and length, one slice that borrows the tensor's
// bytes. Receiving: the header is parsed in place and the payload is handed out as the pieces of the slices that gRPC
// received, some 17 a MiB, so that the one copy that must be made goes straight to where the bytes belong.
//
//   ReceivedChunk chunk;  // One for each stream: it keeps its capacity.
//   while (reader.Read(&message)) {
//     if (absl::Status status = chunk.Parse(message); !status.ok()) return status;
//     for (absl::string_view piece : chunk.pieces()) ...
//   }
//
// The wire format is protobuf's (developers.google.com/protocol-buffers/docs/encoding). The parser restores what the
// generated one gives: any order of fields, the last of a repeated singular field, packed and unpacked shapes, unknown
// fields skipped, UTF-8 checked, every length checked against what is there. It refuses four things that the generated
// one takes, none of which can be part of a valid chunk: more than kMaxTensorRank dimensions, a text field of more than
// kMaxChunkHeaderBytes, more tensors that follow than kMaxFollowingTensors or kMaxFollowingNameBytes allow, and a tag
// of more than 32 bits.
#ifndef WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_
#define WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace weightstream {

class WireCursor;

// Most bytes that a chunk's message takes beyond its payload: what a receiver adds to the bucket limit to size
// messages.
inline constexpr uint64_t kMaxChunkHeaderBytes = 64 << 10;
// Most tensors that may follow the named one in a chunk, and most bytes of their names together.
inline constexpr size_t kMaxFollowingTensors = 4096;
inline constexpr uint64_t kMaxFollowingNameBytes = 48 << 10;

// Everything of a WeightChunk but its data. Field meanings and limits: weightstream.proto.
struct ChunkHeader {
  std::string name;
  absl::InlinedVector<uint64_t, 8> shape;
  std::string dtype;
  uint64_t offset = 0;
  absl::optional<uint32_t> crc32c;
  std::string update_id;
  // Views: a chunk may name thousands. Those of a received chunk live as long as its pieces.
  std::vector<absl::string_view> followed_by;
  // Whether the message has a header_crc32c, which EncodeChunk computes and Parse checks.
  bool has_header_crc32c = false;

  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

// A received chunk. Reusable: Parse again keeps the capacity of strings and vectors, so that the steady state allocates
// nothing. Not thread-safe. Not copyable, because the pieces point into its own slices.
class ReceivedChunk {
 public:
  ReceivedChunk() = default;
  ReceivedChunk(const ReceivedChunk&) = delete;
  ReceivedChunk& operator=(const ReceivedChunk&) = delete;

  // Takes over the buffer's slices and leaves it empty, whatever the outcome. INVALID_ARGUMENT says what is malformed
  // and where (byte offset, field); DATA_LOSS says the same of a message whose header_crc32c can be found and does not
  // match, so that it was not sent like that. The object then holds no chunk. Needs no trust in the input: never reads
  // outside it, allocates no more than a small multiple of what is there.
  absl::Status Parse(grpc::ByteBuffer& message);

  // Drops the chunk and gRPC's memory behind it now, rather than at the next Parse. Keeps the capacity.
  void Clear();

  const ChunkHeader& header() const { return header_; }
  // DATA_LOSS if the message has a header_crc32c that does not match: the header is then not to be believed.
  absl::Status CheckIntact() const;
  // The data, in order; views into slices that live until the next Parse, Clear or destruction. No empty pieces.
  absl::Span<const absl::string_view> pieces() const { return pieces_; }
  uint64_t data_bytes() const { return data_bytes_; }

 private:
  // Reads the value of the field whose tag was read.
  bool ReadField(uint32_t tag, uint64_t field_position, WireCursor& cursor);
  bool ReadHeaderCrc32c(uint64_t field_position, WireCursor& cursor);
  bool ReadPackedShape(WireCursor& cursor);
  bool ReadShapeEntry(WireCursor& cursor);
  bool ReadFollowing(WireCursor& cursor);
  bool ReadData(WireCursor& cursor);
  // Of the message's first bytes.
  uint32_t Crc32cOfFirst(uint64_t bytes) const;
  // Of a message that cannot be parsed: whether it has a header_crc32c that does not match.
  bool WasDamaged() const;

  ChunkHeader header_;
  // The last header_crc32c, and where in the message its field starts.
  uint32_t header_crc32c_ = 0;
  uint64_t header_crc32c_position_ = 0;
  // Whether it matches, if there is one.
  bool intact_ = true;
  std::vector<grpc::Slice> slices_;
  std::vector<absl::string_view> pieces_;
  uint64_t data_bytes_ = 0;
  // Of header_.followed_by.
  uint64_t following_name_bytes_ = 0;
  // Those of its names that lie in several slices, joined. Pointers into it stay valid as it grows.
  std::deque<std::string> joined_names_;
};

// Serialises a chunk whose data are borrowed: `data` must stay unchanged until `released` is called, once, on any
// thread, when gRPC needs the bytes no more. That is the only sign: the return of Write() is not. `released` must not
// block. An empty callback is allowed where the bytes outlive every channel. Where data are empty, `released` is called
// before the return.
//
// The bytes are exactly those of the generated WeightChunk's serializer. Requires texts in UTF-8 and less than 2 GiB in
// all, as the receiver's parser does; the bucket limit keeps chunks far below.
grpc::ByteBuffer EncodeChunk(const ChunkHeader& header, absl::string_view data, std::function<void()> released);
// The same, with data that the slice owns.
grpc::ByteBuffer EncodeChunk(const ChunkHeader& header, const grpc::Slice& data);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_CHUNK_CODEC_H_
