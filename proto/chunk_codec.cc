#include "proto/chunk_codec.h"

#include <grpc/slice.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "proto/wire_cursor.h"
#include "proto/wire_writer.h"
#include "tensor/spec.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// Field numbers of weightstream.v1.WeightChunk; wire_contract_test.cc holds the .proto to them.
enum ChunkField : uint32_t {
  kName = 1,
  kShape = 2,
  kDType = 3,
  kOffset = 4,
  kCrc32c = 5,
  kUpdateId = 6,
  kFollowedBy = 7,
  kHeaderCrc32c = 99,
  kData = 100,
};

const char* FieldName(uint32_t number) {
  switch (number) {
    case kName:
      return "name";
    case kShape:
      return "shape";
    case kDType:
      return "dtype";
    case kOffset:
      return "offset";
    case kCrc32c:
      return "crc32c";
    case kUpdateId:
      return "update_id";
    case kFollowedBy:
      return "followed_by";
    case kHeaderCrc32c:
      return "header_crc32c";
    case kData:
      return "data";
    default:
      return "unknown";
  }
}

// ---- Parsing --------------------------------------------------------------------------------------------------------

constexpr char kNotUtf8[] = "a text is not valid UTF-8";

bool ReadTextLength(WireCursor& cursor, uint64_t* length) {
  if (!cursor.ReadLength(length)) return false;
  // The capacity is kept for as long as the stream lives, so one bad chunk must not be able to make it large.
  return *length <= kMaxChunkHeaderBytes || cursor.Fail("a text is longer than 64 KiB");
}

bool ReadText(WireCursor& cursor, std::string* text) {
  uint64_t length = 0;
  if (!ReadTextLength(cursor, &length)) return false;
  cursor.ReadString(length, text);
  // Also where a later occurrence will replace this one: the generated parser refuses it too.
  return IsValidUtf8(*text) || cursor.Fail(kNotUtf8);
}

// `tag` is 0 where the tag itself could not be read.
absl::Status Malformed(const char* error, uint64_t field_position, uint32_t tag, bool damaged) {
  const std::string field =
      tag == 0 ? "" : absl::StrCat(", field ", FieldNumber(tag), " (", FieldName(FieldNumber(tag)), ")");
  const std::string what = absl::StrCat("malformed chunk: ", error, " (byte ", field_position, field, ")");
  return damaged ? absl::DataLossError(absl::StrCat(
                       what, ", which does not match its header_crc32c: it was damaged on the way; send it again"))
                 : absl::InvalidArgumentError(absl::StrCat(what, "; send a serialised weightstream.v1.WeightChunk"));
}

// ---- Encoding -------------------------------------------------------------------------------------------------------

size_t PackedShapeBytes(const ChunkHeader& header) {
  size_t bytes = 0;
  for (uint64_t extent : header.shape) bytes += VarintBytes(extent);
  return bytes;
}

constexpr uint32_t kDataTag = MakeTag(kData, kLengthDelimited);
constexpr uint32_t kHeaderCrc32cTag = MakeTag(kHeaderCrc32c, kFixed32);

// Everything before the data's first byte.
size_t PrefixBytes(const ChunkHeader& header, size_t packed_shape_bytes, size_t data_bytes) {
  size_t bytes = TextFieldBytes(header.name) + TextFieldBytes(header.dtype) + TextFieldBytes(header.update_id);
  if (!header.shape.empty()) bytes += 1 + VarintBytes(packed_shape_bytes) + packed_shape_bytes;
  if (header.offset != 0) bytes += 1 + VarintBytes(header.offset);
  if (header.crc32c.has_value()) bytes += 1 + sizeof(uint32_t);
  for (const absl::string_view name : header.followed_by) bytes += TextEntryBytes(name);
  if (header.has_header_crc32c) bytes += VarintBytes(kHeaderCrc32cTag) + sizeof(uint32_t);
  if (data_bytes != 0) bytes += VarintBytes(kDataTag) + VarintBytes(data_bytes);
  return bytes;
}

// In the order of the field numbers, as the generated serializer writes them.
void PutPrefix(const ChunkHeader& header, size_t packed_shape_bytes, size_t data_bytes, uint8_t* const begin) {
  uint8_t* out = begin;
  out = PutTextField(kName, header.name, out);
  if (!header.shape.empty()) {
    out = PutVarint(MakeTag(kShape, kLengthDelimited), out);
    out = PutVarint(packed_shape_bytes, out);
    for (uint64_t extent : header.shape) out = PutVarint(extent, out);
  }
  out = PutTextField(kDType, header.dtype, out);
  if (header.offset != 0) {
    out = PutVarint(MakeTag(kOffset, kVarint), out);
    out = PutVarint(header.offset, out);
  }
  if (header.crc32c.has_value()) {
    out = PutVarint(MakeTag(kCrc32c, kFixed32), out);
    out = PutFixed32(*header.crc32c, out);
  }
  out = PutTextField(kUpdateId, header.update_id, out);
  for (const absl::string_view name : header.followed_by) out = PutTextEntry(kFollowedBy, name, out);
  if (header.has_header_crc32c) {
    const absl::string_view covered(reinterpret_cast<const char*>(begin), static_cast<size_t>(out - begin));
    out = PutVarint(kHeaderCrc32cTag, out);
    out = PutFixed32(ExtendCrc32c(0, covered), out);
  }
  if (data_bytes == 0) return;
  out = PutVarint(kDataTag, out);
  PutVarint(data_bytes, out);
}

grpc::Slice PrefixSlice(const ChunkHeader& header, size_t data_bytes) {
  const size_t packed_shape_bytes = PackedShapeBytes(header);
  grpc::Slice slice(PrefixBytes(header, packed_shape_bytes, data_bytes));
  // gRPC has no mutable access, but nobody else holds the slice yet. Short prefixes lie within the slice object itself.
  PutPrefix(header, packed_shape_bytes, data_bytes, const_cast<uint8_t*>(slice.begin()));
  return slice;
}

void CallReleased(void* callback) {
  auto* released = static_cast<std::function<void()>*>(callback);
  (*released)();
  delete released;
}

grpc::Slice BorrowingSlice(absl::string_view data, std::function<void()> released) {
  // Without anyone to tell, gRPC needs to count no references: a static slice saves two allocations.
  if (!released) return grpc::Slice(data.data(), data.size(), grpc::Slice::STATIC_SLICE);
  return grpc::Slice(const_cast<char*>(data.data()), data.size(), CallReleased,
                     new std::function<void()>(std::move(released)));
}

}  // namespace

void ReceivedChunk::Clear() {
  header_.name.clear();
  // Not clear(), which frees what an InlinedVector has on the heap.
  header_.shape.resize(0);
  header_.dtype.clear();
  header_.offset = 0;
  header_.crc32c.reset();
  header_.update_id.clear();
  header_.followed_by.clear();
  joined_names_.clear();
  header_.has_header_crc32c = false;
  intact_ = true;
  following_name_bytes_ = 0;
  pieces_.clear();
  slices_.clear();
  data_bytes_ = 0;
}

absl::Status ReceivedChunk::Parse(grpc::ByteBuffer& message) {
  Clear();
  if (!message.Valid()) return absl::InvalidArgumentError("malformed chunk: there is no message; read one first");
  const uint64_t message_bytes = message.Length();
  const grpc::Status dumped = message_bytes > kMaxWireBytes ? grpc::Status::OK : message.Dump(&slices_);
  message.Clear();
  if (message_bytes > kMaxWireBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed chunk: a message of ", message_bytes, " bytes is over 2 GiB; send smaller chunks"));
  }
  if (!dumped.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "malformed chunk: gRPC cannot read the message: ", dumped.error_message(), "; send it without compression"));
  }
  WireCursor cursor(slices_);
  while (!cursor.AtEnd()) {
    const uint64_t field_position = cursor.position();
    uint32_t tag = 0;
    if (!cursor.ReadTag(&tag) || !ReadField(tag, field_position, cursor)) {
      const bool damaged = WasDamaged();
      Clear();
      return Malformed(cursor.error(), field_position, tag, damaged);
    }
  }
  // Once for all of them: a message of nothing but checksums must not cost the square of its length.
  if (header_.has_header_crc32c) intact_ = Crc32cOfFirst(header_crc32c_position_) == header_crc32c_;
  return absl::OkStatus();
}

absl::Status ReceivedChunk::CheckIntact() const {
  if (intact_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("a chunk that names tensor '", Printable(header_.name), "', offset ",
                                          header_.offset,
                                          ", does not match its header_crc32c: it was damaged on the way; send it "
                                          "again"));
}

uint32_t ReceivedChunk::Crc32cOfFirst(uint64_t bytes) const {
  uint32_t crc = 0;
  for (const grpc::Slice& slice : slices_) {
    const size_t length = std::min<uint64_t>(bytes, slice.size());
    crc = ExtendCrc32c(crc, absl::string_view(reinterpret_cast<const char*>(slice.begin()), length));
    bytes -= length;
    if (bytes == 0) break;
  }
  return crc;
}

bool ReceivedChunk::WasDamaged() const {
  // Whatever the fields hold, only their order on the wire: a flipped bit in a length leads astray, one in a value does
  // not.
  absl::optional<uint64_t> covered;
  uint32_t expected = 0;
  WireCursor cursor(slices_);
  while (!cursor.AtEnd()) {
    const uint64_t field_position = cursor.position();
    uint32_t tag = 0;
    if (!cursor.ReadTag(&tag)) break;
    if (tag == kHeaderCrc32cTag) {
      if (!cursor.ReadFixed32(&expected)) break;
      covered = field_position;
    } else if (!cursor.SkipValue(tag)) {
      break;
    }
  }
  return covered.has_value() && Crc32cOfFirst(*covered) != expected;
}

bool ReceivedChunk::ReadHeaderCrc32c(uint64_t field_position, WireCursor& cursor) {
  uint32_t expected = 0;
  if (!cursor.ReadFixed32(&expected)) return false;
  header_.has_header_crc32c = true;
  header_crc32c_ = expected;
  header_crc32c_position_ = field_position;
  return true;
}

bool ReceivedChunk::ReadField(uint32_t tag, uint64_t field_position, WireCursor& cursor) {
  // A known number with another wire type is an unknown field, as in the generated parser.
  switch (tag) {
    case MakeTag(kName, kLengthDelimited):
      return ReadText(cursor, &header_.name);
    case MakeTag(kShape, kLengthDelimited):
      return ReadPackedShape(cursor);
    case MakeTag(kShape, kVarint):
      return ReadShapeEntry(cursor);
    case MakeTag(kDType, kLengthDelimited):
      return ReadText(cursor, &header_.dtype);
    case MakeTag(kOffset, kVarint):
      return cursor.ReadVarint(&header_.offset);
    case MakeTag(kCrc32c, kFixed32):
      return cursor.ReadFixed32(&header_.crc32c.emplace());
    case MakeTag(kUpdateId, kLengthDelimited):
      return ReadText(cursor, &header_.update_id);
    case MakeTag(kFollowedBy, kLengthDelimited):
      return ReadFollowing(cursor);
    case kHeaderCrc32cTag:
      return ReadHeaderCrc32c(field_position, cursor);
    case kDataTag:
      return ReadData(cursor);
    default:
      return cursor.SkipValue(tag);
  }
}

bool ReceivedChunk::ReadShapeEntry(WireCursor& cursor) {
  uint64_t extent = 0;
  if (!cursor.ReadVarint(&extent)) return false;
  if (header_.shape.size() == kMaxTensorRank) return cursor.Fail("the shape has more than 64 dimensions");
  header_.shape.push_back(extent);
  return true;
}

bool ReceivedChunk::ReadPackedShape(WireCursor& cursor) {
  uint64_t length = 0;
  if (!cursor.ReadLength(&length)) return false;
  const uint64_t remaining_after = cursor.remaining() - length;
  while (cursor.remaining() > remaining_after) {
    if (!ReadShapeEntry(cursor)) return false;
  }
  if (cursor.remaining() < remaining_after) return cursor.Fail("a packed entry runs past the field's length");
  return true;
}

bool ReceivedChunk::ReadFollowing(WireCursor& cursor) {
  // A string takes many times the two bytes of an empty name on the wire: without a limit a message of megabytes would
  // become a list of many more.
  if (header_.followed_by.size() == kMaxFollowingTensors) return cursor.Fail("more than 4096 tensors follow");
  uint64_t length = 0;
  if (!ReadTextLength(cursor, &length)) return false;
  absl::string_view name;
  if (const uint8_t* const there = cursor.PeekContiguous(length); there != nullptr) {
    name = absl::string_view(reinterpret_cast<const char*>(there), length);
    cursor.Advance(length);
  } else {
    cursor.ReadString(length, &joined_names_.emplace_back());
    name = joined_names_.back();
  }
  if (!IsValidUtf8(name)) return cursor.Fail(kNotUtf8);
  header_.followed_by.push_back(name);
  following_name_bytes_ += name.size();
  return following_name_bytes_ <= kMaxFollowingNameBytes || cursor.Fail("the names that follow exceed 48 KiB");
}

bool ReceivedChunk::ReadData(WireCursor& cursor) {
  uint64_t length = 0;
  if (!cursor.ReadLength(&length)) return false;
  pieces_.clear();
  cursor.TakePieces(length, &pieces_);
  data_bytes_ = length;
  return true;
}

grpc::ByteBuffer EncodeChunk(const ChunkHeader& header, absl::string_view data, std::function<void()> released) {
  const grpc::Slice prefix = PrefixSlice(header, data.size());
  if (data.empty()) {
    if (released) released();
    return grpc::ByteBuffer(&prefix, 1);
  }
  const grpc::Slice slices[] = {prefix, BorrowingSlice(data, std::move(released))};
  return grpc::ByteBuffer(slices, 2);
}

grpc::ByteBuffer EncodeChunk(const ChunkHeader& header, const grpc::Slice& data) {
  const grpc::Slice slices[] = {PrefixSlice(header, data.size()), data};
  return grpc::ByteBuffer(slices, data.size() == 0 ? 1 : 2);
}

}  // namespace weightstream
