#include "proto/trace_context.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weightstream {
namespace {

constexpr uint8_t kDefinedFlags = 0x03;
constexpr absl::string_view kInvalidVersion = "ff";

// Where the parts begin, and the whole of version 00 ends.
constexpr size_t kTraceId = 3;
constexpr size_t kTraceIdSize = 32;
constexpr size_t kSpanId = kTraceId + kTraceIdSize + 1;
constexpr size_t kSpanIdSize = 16;
constexpr size_t kFlags = kSpanId + kSpanIdSize + 1;
constexpr size_t kSize = kFlags + 2;

bool IsLowerHex(absl::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

bool IsId(absl::string_view text) { return IsLowerHex(text) && text.find_first_not_of('0') != absl::string_view::npos; }

int DigitValue(char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

}  // namespace

absl::optional<TraceContext> ParseTraceparent(absl::string_view text) {
  if (text.size() < kSize) return absl::nullopt;
  const absl::string_view version = text.substr(0, 2);
  if (!IsLowerHex(version) || version == kInvalidVersion) return absl::nullopt;
  if (text.size() > kSize && (version == "00" || text[kSize] != '-')) return absl::nullopt;
  if (text[kTraceId - 1] != '-' || text[kSpanId - 1] != '-' || text[kFlags - 1] != '-') return absl::nullopt;
  const absl::string_view trace_id = text.substr(kTraceId, kTraceIdSize);
  const absl::string_view span_id = text.substr(kSpanId, kSpanIdSize);
  const absl::string_view flags = text.substr(kFlags, 2);
  if (!IsId(trace_id) || !IsId(span_id) || !IsLowerHex(flags)) return absl::nullopt;
  const int bits = DigitValue(flags[0]) * 16 + DigitValue(flags[1]);
  return TraceContext{std::string(trace_id), std::string(span_id), static_cast<uint8_t>(bits & kDefinedFlags)};
}

std::string FormatTraceparent(const TraceContext& context) {
  return absl::StrCat("00-", context.trace_id, "-", context.span_id, "-", absl::Hex(context.flags, absl::kZeroPad2));
}

TraceContext ChildOf(const TraceContext& parent) {
  std::random_device random;
  TraceContext child = parent;
  do {
    child.span_id = absl::StrFormat("%08x%08x", random(), random());
  } while (!IsId(child.span_id));
  return child;
}

}  // namespace weightstream
