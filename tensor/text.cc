#include "tensor/text.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

constexpr size_t kPrintableBytes = 100;

// The bytes of the well-formed UTF-8 sequence that starts at `at`, 0 if there is none. The bounds of the second byte
// are those of The Unicode Standard, table 3-7: they exclude overlong forms, surrogates and what lies above U+10FFFF.
size_t Utf8SequenceBytes(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() - at < bytes) return 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (byte(at + 1) < low || byte(at + 1) > high) return 0;
  for (size_t i = 2; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  return bytes;
}

// C0, DEL, and C1 (U+0080 to U+009F, two bytes), which some terminals obey as well.
bool IsControl(absl::string_view sequence) {
  const auto lead = static_cast<uint8_t>(sequence[0]);
  if (sequence.size() == 1) return lead < 0x20 || lead == 0x7F;
  return lead == 0xC2 && static_cast<uint8_t>(sequence[1]) < 0xA0;
}

void AppendEscaped(std::string& out, absl::string_view bytes) {
  for (const char byte : bytes) absl::StrAppend(&out, "\\x", absl::Hex(static_cast<uint8_t>(byte), absl::kZeroPad2));
}

}  // namespace

bool IsValidUtf8(absl::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  size_t at = 0;
  while (at < text.size()) {
    // Headers are ASCII almost throughout: eight bytes at a step.
    if (uint64_t word; text.size() - at >= sizeof(word)) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & kHighBits) == 0) {
        at += sizeof(word);
        continue;
      }
    } else if (text.size() >= sizeof(word)) {
      // The last eight, of which some have been looked at.
      std::memcpy(&word, text.data() + text.size() - sizeof(word), sizeof(word));
      if ((word & kHighBits) == 0) return true;
    }
    const size_t bytes = Utf8SequenceBytes(text, at);
    if (bytes == 0) return false;
    at += bytes;
  }
  return true;
}

std::string Printable(absl::string_view text) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const size_t sequence = Utf8SequenceBytes(text, at);
    const absl::string_view bytes = text.substr(at, sequence == 0 ? 1 : sequence);
    if (at + bytes.size() > kPrintableBytes) break;
    if (sequence == 0 || IsControl(bytes)) {
      AppendEscaped(out, bytes);
    } else {
      absl::StrAppend(&out, bytes);
    }
    at += bytes.size();
  }
  if (at < text.size()) absl::StrAppend(&out, "... (", text.size(), " bytes)");
  return out;
}

}  // namespace weightstream
