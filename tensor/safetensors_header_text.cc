#include "tensor/safetensors_header_text.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/container/fixed_array.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "tensor/json_events.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {
namespace {

constexpr size_t kTypicalEntryBytes = 160;
constexpr size_t kMostDigits = 20;
// The words around the numbers that follow a tensor's name, a dtype's name among them.
constexpr size_t kMostWordBytes = 80;

char* Put(absl::string_view text, char* out) { return std::copy(text.begin(), text.end(), out); }

char* PutNumber(uint64_t number, char* out) { return std::to_chars(out, out + kMostDigits, number).ptr; }

}  // namespace

HeaderText::HeaderText(const Metadata& metadata, size_t tensors) {
  text_.reserve(tensors * kTypicalEntryBytes);
  // The length, which Finish sets.
  text_.append(kSafetensorsPrefixBytes, '\0');
  text_.push_back('{');
  if (metadata.empty()) return;
  const auto append_pair = [](std::string* out, const Metadata::value_type& pair) {
    absl::StrAppend(out, JsonString(pair.first), ":", JsonString(pair.second));
  };
  absl::StrAppend(&text_, "\"__metadata__\":{", absl::StrJoin(metadata, ",", append_pair), "}");
  first_ = false;
}

void HeaderText::Add(const TensorSpec& spec, const ByteRange& range) {
  if (!std::exchange(first_, false)) text_.push_back(',');
  AppendJsonString(spec.name, &text_);
  // Room for a number and a comma for each dimension and both offsets: on the stack, but for very many dimensions.
  absl::FixedArray<char, 512> description((spec.shape.size() + 2) * (kMostDigits + 1) + kMostWordBytes);
  char* out = Put(":{\"dtype\":\"", description.data());
  out = Put(DTypeName(spec.dtype), out);
  out = Put("\",\"shape\":[", out);
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    if (i > 0) *out++ = ',';
    out = PutNumber(spec.shape[i], out);
  }
  out = Put("],\"data_offsets\":[", out);
  out = PutNumber(range.begin, out);
  *out++ = ',';
  out = PutNumber(range.end, out);
  out = Put("]}", out);
  text_.append(description.data(), static_cast<size_t>(out - description.data()));
}

std::string HeaderText::Finish(uint64_t data_start) && {
  text_.push_back('}');
  if (text_.size() < data_start) text_.append(data_start - text_.size(), ' ');
  const uint64_t json_bytes = text_.size() - kSafetensorsPrefixBytes;
  for (uint64_t i = 0; i < kSafetensorsPrefixBytes; ++i) text_[i] = static_cast<char>(json_bytes >> (8 * i));
  return std::move(text_);
}

}  // namespace weightstream
