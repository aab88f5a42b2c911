#include "proto/wire_cursor.h"

#include <algorithm>
#include <cstring>

namespace weightstream {

WireCursor::WireCursor(absl::Span<const grpc::Slice> slices) : following_(slices.data()) {
  for (const grpc::Slice& slice : slices) total_ += slice.size();
  behind_ = total_;
}

void WireCursor::NextSlice() {
  do {
    next_ = following_->begin();
    end_ = following_->end();
    ++following_;
  } while (next_ == end_);
  behind_ -= static_cast<uint64_t>(end_ - next_);
}

bool WireCursor::ReadByte(uint8_t* byte) {
  if (next_ == end_) {
    if (behind_ == 0) return Fail("the message ends inside the field");
    NextSlice();
  }
  *byte = *next_++;
  return true;
}

bool WireCursor::ReadVarintSlow(int max_bytes, const char* too_long, uint64_t* value) {
  uint64_t result = 0;
  for (int i = 0; i < max_bytes; ++i) {
    uint8_t byte = 0;
    if (!ReadByte(&byte)) return false;
    result |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return Fail(too_long);
}

bool WireCursor::ReadTagSlow(uint32_t* tag) {
  uint64_t value = 0;
  if (!ReadVarintSlow(5, "a tag is longer than 5 bytes", &value)) return false;
  if (value > UINT32_MAX) return Fail("a field number is above 2^29-1");
  *tag = static_cast<uint32_t>(value);
  if (FieldNumber(*tag) == 0) return Fail("a field number is 0");
  return true;
}

bool WireCursor::ReadLength(uint64_t* length) {
  if (!ReadVarintSlow(5, "a length is over 2 GiB", length)) return false;
  if (*length > kMaxWireBytes) return Fail("a length is over 2 GiB");
  if (*length > remaining()) return Fail("a length exceeds the bytes that are left");
  return true;
}

bool WireCursor::ReadFixed32(uint32_t* value) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 8) {
    uint8_t byte = 0;
    if (!ReadByte(&byte)) return false;
    result |= static_cast<uint32_t>(byte) << shift;
  }
  *value = result;
  return true;
}

template <typename Take>
void WireCursor::ForEachRun(uint64_t length, Take take) {
  while (length > 0) {
    if (next_ == end_) NextSlice();
    const uint64_t run = std::min(length, static_cast<uint64_t>(end_ - next_));
    take(reinterpret_cast<const char*>(next_), run);
    next_ += run;
    length -= run;
  }
}

void WireCursor::ReadString(uint64_t length, std::string* text) {
  text->clear();
  ForEachRun(length, [text](const char* run, uint64_t bytes) { text->append(run, bytes); });
}

void WireCursor::TakePieces(uint64_t length, std::vector<absl::string_view>* pieces) {
  ForEachRun(length, [pieces](const char* run, uint64_t bytes) { pieces->emplace_back(run, bytes); });
}

bool WireCursor::TakeRestIf(absl::string_view text) {
  if (text.size() != remaining()) return false;
  WireCursor rest = *this;
  bool same = true;
  rest.ForEachRun(text.size(), [&](const char* run, uint64_t bytes) {
    same = same && std::memcmp(run, text.data(), bytes) == 0;
    text.remove_prefix(bytes);
  });
  if (same) *this = rest;
  return same;
}

bool WireCursor::SkipBytes(uint64_t length) {
  if (length > remaining()) return Fail("the message ends inside the field");
  ForEachRun(length, [](const char*, uint64_t) {});
  return true;
}

bool WireCursor::SkipScalar(uint32_t tag) {
  uint64_t value = 0;
  switch (WireTypeOf(tag)) {
    case kVarint:
      return ReadVarint(&value);
    case kFixed64:
      return SkipBytes(8);
    case kLengthDelimited:
      return ReadLength(&value) && SkipBytes(value);
    case kFixed32:
      return SkipBytes(4);
    case kEndGroup:
      return Fail("a group ends that was not begun");
    default:
      return Fail("a wire type is unknown");
  }
}

// A loop with its own stack, because the depth is the sender's choice.
bool WireCursor::SkipGroup(uint32_t start_tag) {
  uint32_t open[kMaxGroupDepth];
  open[0] = start_tag;
  size_t depth = 1;
  while (depth > 0) {
    uint32_t tag = 0;
    if (!ReadTag(&tag)) return false;
    if (WireTypeOf(tag) == kStartGroup) {
      if (depth == kMaxGroupDepth) return Fail("groups nest deeper than 100 levels");
      open[depth++] = tag;
    } else if (WireTypeOf(tag) == kEndGroup) {
      if (FieldNumber(tag) != FieldNumber(open[--depth])) return Fail("a group ends with another group's number");
    } else if (!SkipScalar(tag)) {
      return false;
    }
  }
  return true;
}

bool WireCursor::SkipValue(uint32_t tag) { return WireTypeOf(tag) == kStartGroup ? SkipGroup(tag) : SkipScalar(tag); }

}  // namespace weightstream
