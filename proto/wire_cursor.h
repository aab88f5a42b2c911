// Reads protobuf's wire format from bytes that lie in several slices, without joining them.
//
// The rules are those of protobuf 3.21's generated C++ parsers: tags and lengths of at most 5 bytes, varints of at most
// 10 (bits beyond the 64th are dropped), groups nested to 100 levels. The one difference: a 5-byte tag of more than
// 32 bits is refused, where those parsers drop the excess bits and read some other field.
//
// Each Read, Skip and Take returns false on malformed input; error() then says what was wrong and the cursor is of no
// further use. Nothing is read outside the slices and nothing is allocated beyond what the caller's outputs need.
// Not thread-safe. The slices must outlive the cursor.
#ifndef WEIGHTSTREAM_PROTO_WIRE_CURSOR_H_
#define WEIGHTSTREAM_PROTO_WIRE_CURSOR_H_

#include <grpcpp/support/slice.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weightstream {

// The low three bits of a tag; the bits above them are the field's number.
enum WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kLengthDelimited = 2,
  kStartGroup = 3,
  kEndGroup = 4,
  kFixed32 = 5,
};

constexpr uint32_t MakeTag(uint32_t field_number, WireType type) { return field_number << 3 | type; }
constexpr uint32_t FieldNumber(uint32_t tag) { return tag >> 3; }
constexpr uint32_t WireTypeOf(uint32_t tag) { return tag & 7; }

// Largest message and length that the format allows: sizes are signed 32-bit numbers in most implementations.
inline constexpr uint64_t kMaxWireBytes = (uint64_t{2} << 30) - 1;
// How deep unknown groups may nest; protobuf's own default.
inline constexpr size_t kMaxGroupDepth = 100;

class WireCursor {
 public:
  explicit WireCursor(absl::Span<const grpc::Slice> slices);

  bool AtEnd() const { return remaining() == 0; }
  uint64_t remaining() const { return static_cast<uint64_t>(end_ - next_) + behind_; }
  // Bytes from the start of the message.
  uint64_t position() const { return total_ - remaining(); }
  // Why the last call failed; never null after one did.
  const char* error() const { return error_; }

  // A field's tag, with a number in 1..2^29-1.
  bool ReadTag(uint32_t* tag) {
    if (next_ < end_ && *next_ >= 8 && *next_ < 0x80) {
      *tag = *next_++;
      return true;
    }
    return ReadTagSlow(tag);
  }

  bool ReadVarint(uint64_t* value) {
    if (next_ < end_ && *next_ < 0x80) {
      *value = *next_++;
      return true;
    }
    return ReadVarintSlow(10, "a varint is longer than 10 bytes", value);
  }

  // The length of what follows, checked to be there.
  bool ReadLength(uint64_t* length);
  bool ReadFixed32(uint32_t* value);

  // The next `length` bytes, which must be there (ReadLength has checked): copied over `text`, whose capacity is kept,
  // or appended to `pieces` as views into the slices, no piece empty.
  void ReadString(uint64_t length, std::string* text);
  void TakePieces(uint64_t length, std::vector<absl::string_view>* pieces);

  // The next `length` bytes (ReadLength has checked that they are there) where they lie in one slice, else null. Does
  // not move past them: Advance does, over no more than these.
  const uint8_t* PeekContiguous(uint64_t length) {
    if (next_ == end_ && length > 0) NextSlice();
    return static_cast<uint64_t>(end_ - next_) >= length ? next_ : nullptr;
  }
  void Advance(uint64_t length) { next_ += length; }

  // Moves past the rest of the message if that is `text`, byte for byte.
  bool TakeRestIf(absl::string_view text);

  // Skips the value of a field whose tag was just read: any type, groups with all that is in them.
  bool SkipValue(uint32_t tag);

  // Records why the input is refused; always false, so that a reader can return it.
  bool Fail(const char* error) {
    error_ = error;
    return false;
  }

 private:
  // Moves on to the next slice with bytes in it. Requires that the current one is used up and remaining() > 0.
  void NextSlice();
  bool ReadByte(uint8_t* byte);
  bool ReadVarintSlow(int max_bytes, const char* too_long, uint64_t* value);
  bool ReadTagSlow(uint32_t* tag);
  bool SkipBytes(uint64_t length);
  bool SkipScalar(uint32_t tag);
  bool SkipGroup(uint32_t start_tag);
  // Hands the next `length` bytes to `take` as the contiguous runs that they lie in.
  template <typename Take>
  void ForEachRun(uint64_t length, Take take);

  const uint8_t* next_ = nullptr;
  const uint8_t* end_ = nullptr;
  const grpc::Slice* following_;
  // Bytes in the slices from following_ on.
  uint64_t behind_ = 0;
  uint64_t total_ = 0;
  const char* error_ = nullptr;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_WIRE_CURSOR_H_
