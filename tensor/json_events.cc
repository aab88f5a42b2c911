#include "tensor/json_events.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

using Json = nlohmann::json;

// The library's own interface of events, translated. It reports errors by value through parse_error().
class Adapter : public nlohmann::json_sax<Json> {
 public:
  explicit Adapter(JsonHandler& handler) : handler_(handler) {}

  const absl::Status& status() const { return status_; }
  // Where the text is not JSON, in bytes from its start; only after a false parse with an OK status.
  size_t error_position() const { return error_position_; }

  bool null() override { return Keep(handler_.OnOther("null")); }
  bool boolean(bool value) override { return Keep(handler_.OnOther("a boolean")); }
  bool number_integer(number_integer_t value) override { return Keep(handler_.OnOther("a number below 0")); }
  bool number_unsigned(number_unsigned_t value) override { return Keep(handler_.OnUnsigned(value)); }
  bool number_float(number_float_t value, const string_t& text) override {
    return Keep(handler_.OnOther("a number that is not a whole one of 0 to 2^64 - 1"));
  }
  bool string(string_t& value) override { return Keep(handler_.OnString(std::move(value))); }
  bool binary(binary_t& value) override { return Keep(handler_.OnOther("binary data")); }
  bool start_object(std::size_t) override { return Keep(handler_.OnStartObject()); }
  bool key(string_t& key) override { return Keep(handler_.OnKey(std::move(key))); }
  bool end_object() override { return Keep(handler_.OnEndObject()); }
  bool start_array(std::size_t) override { return Keep(handler_.OnStartArray()); }
  bool end_array() override { return Keep(handler_.OnEndArray()); }
  bool parse_error(std::size_t position, const std::string& last_token, const Json::exception& error) override {
    error_position_ = position;
    return false;
  }

 private:
  bool Keep(absl::Status status) {
    status_ = std::move(status);
    return status_.ok();
  }

  JsonHandler& handler_;
  absl::Status status_;
  size_t error_position_ = 0;
};

// How JSON (RFC 8259, section 7) writes a character that may not stand for itself in a string; empty for the others.
bool NeedsEscape(char c) { return static_cast<uint8_t>(c) < 0x20 || c == '"' || c == '\\'; }

// Of a character that needs one.
std::string EscapeOf(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  return absl::StrCat("\\u", absl::Hex(static_cast<uint8_t>(c), absl::kZeroPad4));
}

absl::Status NotJson(absl::string_view subject, absl::string_view json, size_t position) {
  constexpr size_t kContextBytes = 30;
  const size_t end = std::min(position, json.size());
  const size_t begin = end < kContextBytes ? 0 : end - kContextBytes;
  return absl::InvalidArgumentError(absl::StrCat(subject, " is not valid JSON at byte ", end, ", after \"",
                                                 Printable(json.substr(begin, end - begin)),
                                                 "\"; the file is damaged or was written wrongly"));
}

}  // namespace

absl::Status ParseJson(absl::string_view subject, absl::string_view json, JsonHandler& handler) {
  if (!IsValidUtf8(json)) {
    return absl::InvalidArgumentError(absl::StrCat(subject, " is not valid UTF-8; the file is damaged"));
  }
  // The library takes a NUL byte for the end of the text, and would not look at what follows.
  if (const size_t nul = json.find('\0'); nul != absl::string_view::npos) return NotJson(subject, json, nul);
  Adapter adapter(handler);
  const bool parsed = Json::sax_parse(json.data(), json.data() + json.size(), &adapter);
  if (!adapter.status().ok()) return adapter.status();
  return parsed ? absl::OkStatus() : NotJson(subject, json, adapter.error_position());
}

bool IsPlainInJson(absl::string_view text) {
  constexpr uint64_t kEachByte = 0x0101010101010101;
  constexpr uint64_t kHighBits = 0x80 * kEachByte;
  // The high bit of each byte that is below `limit`, which is at most 128.
  const auto below = [](uint64_t word, uint64_t limit) { return (word - limit * kEachByte) & ~word & kHighBits; };
  size_t at = 0;
  for (uint64_t word; text.size() - at >= sizeof(word); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    const uint64_t quotes = word ^ (uint64_t{'"'} * kEachByte);
    const uint64_t backslashes = word ^ (uint64_t{'\\'} * kEachByte);
    // A borrow may mark a byte after one that is to be escaped; never one without such before it.
    if ((below(word, 0x20) | below(quotes, 1) | below(backslashes, 1)) != 0) return false;
  }
  return std::none_of(text.begin() + at, text.end(), NeedsEscape);
}

void AppendJsonString(absl::string_view text, std::string* out) {
  out->push_back('"');
  const bool plain = IsPlainInJson(text);
  size_t plain_begin = 0;
  for (size_t i = 0; !plain && i < text.size(); ++i) {
    if (!NeedsEscape(text[i])) continue;
    absl::StrAppend(out, text.substr(plain_begin, i - plain_begin), EscapeOf(text[i]));
    plain_begin = i + 1;
  }
  out->append(text.data() + plain_begin, text.size() - plain_begin);
  out->push_back('"');
}

std::string JsonString(absl::string_view text) {
  std::string out;
  AppendJsonString(text, &out);
  return out;
}

}  // namespace weightstream
