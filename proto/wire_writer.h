// Writes protobuf's wire format into memory that is large enough: what a codec needs beside the generated code.
//
// Each Put returns where the next byte goes; each ...Bytes says how many a Put takes.
#ifndef WEIGHTSTREAM_PROTO_WIRE_WRITER_H_
#define WEIGHTSTREAM_PROTO_WIRE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/numeric/bits.h"
#include "absl/strings/string_view.h"
#include "proto/wire_cursor.h"

namespace weightstream {

inline size_t VarintBytes(uint64_t value) { return (static_cast<size_t>(absl::bit_width(value | 1)) + 6) / 7; }

inline uint8_t* PutVarint(uint64_t value, uint8_t* out) {
  while (value >= 0x80) {
    *out++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<uint8_t>(value);
  return out;
}

inline uint8_t* PutFixed32(uint32_t value, uint8_t* out) {
  for (int shift = 0; shift < 32; shift += 8) *out++ = static_cast<uint8_t>(value >> shift);
  return out;
}

// A length-delimited field with a number below 16. An entry of a repeated field is written even if it is empty.
inline size_t TextEntryBytes(absl::string_view text) { return 1 + VarintBytes(text.size()) + text.size(); }

inline uint8_t* PutTextEntry(uint32_t field_number, absl::string_view text, uint8_t* out) {
  out = PutVarint(MakeTag(field_number, kLengthDelimited), out);
  out = PutVarint(text.size(), out);
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// proto3 leaves out texts and numbers that have their default.
inline size_t TextFieldBytes(absl::string_view text) { return text.empty() ? 0 : TextEntryBytes(text); }

inline uint8_t* PutTextField(uint32_t field_number, absl::string_view text, uint8_t* out) {
  return text.empty() ? out : PutTextEntry(field_number, text, out);
}

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_WIRE_WRITER_H_
