#include "tensor/safetensors_header_text.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "tensor/json_events.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {
namespace {

constexpr size_t kTypicalEntryBytes = 160;
constexpr size_t kMostDigits = 20;
// By so much at least the text grows: it is filled with zeros first, and these are to be in the cache still when they
// are written over.
constexpr size_t kStepBytes = 64 << 10;

char* Put(absl::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace

HeaderText::HeaderText(const Metadata& metadata, size_t tensors) {
  text_.reserve(tensors * kTypicalEntryBytes);
  // The length, which Finish sets.
  text_.append(kSafetensorsPrefixBytes, '\0');
  text_.push_back('{');
  used_ = text_.size();
  if (metadata.empty()) return;
  const auto append_pair = [](std::string* out, const Metadata::value_type& pair) {
    absl::StrAppend(out, JsonString(pair.first), ":", JsonString(pair.second));
  };
  absl::StrAppend(&text_, "\"__metadata__\":{", absl::StrJoin(metadata, ",", append_pair), "}");
  used_ = text_.size();
  first_ = false;
}

char* HeaderText::Room(size_t bytes) {
  if (text_.size() - used_ < bytes) text_.resize(used_ + std::max(bytes, kStepBytes));
  return text_.data() + used_;
}

void HeaderText::SetWords(const TensorSpec& spec) {
  words_dtype_ = spec.dtype;
  words_shape_ = spec.shape;
  words_ = absl::StrCat(":{\"dtype\":\"", DTypeName(spec.dtype), "\",\"shape\":[", absl::StrJoin(spec.shape, ","),
                        "],\"data_offsets\":[");
}

void HeaderText::Add(const TensorSpec& spec, const ByteRange& range) {
  if (words_.empty() || spec.dtype != words_dtype_ || spec.shape != words_shape_) SetWords(spec);
  if (range.begin != last_end_) last_end_digits_ = absl::StrCat(range.begin);
  const bool plain = IsPlainInJson(spec.name);
  const std::string escaped = plain ? "" : JsonString(spec.name);
  // Beside these three a comma, two quotes, the second number, and the words around it.
  constexpr size_t kMostOtherBytes = 3 + kMostDigits + 3;
  char* const begin =
      Room(spec.name.size() + escaped.size() + words_.size() + last_end_digits_.size() + kMostOtherBytes);
  char* out = begin;
  if (!std::exchange(first_, false)) *out++ = ',';
  if (plain) {
    *out++ = '"';
    out = Put(spec.name, out);
    *out++ = '"';
  } else {
    out = Put(escaped, out);
  }
  out = Put(words_, out);
  out = Put(last_end_digits_, out);
  *out++ = ',';
  char* const number = out;
  out = std::to_chars(out, out + kMostDigits, range.end).ptr;
  last_end_ = range.end;
  last_end_digits_.assign(number, static_cast<size_t>(out - number));
  out = Put("]}", out);
  used_ += static_cast<size_t>(out - begin);
}

std::string HeaderText::Finish(uint64_t data_start) && {
  text_.resize(used_);
  text_.push_back('}');
  if (text_.size() < data_start) text_.append(data_start - text_.size(), ' ');
  const uint64_t json_bytes = text_.size() - kSafetensorsPrefixBytes;
  for (uint64_t i = 0; i < kSafetensorsPrefixBytes; ++i) text_[i] = static_cast<char>(json_bytes >> (8 * i));
  return std::move(text_);
}

}  // namespace weightstream
