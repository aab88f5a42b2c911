// Reading .safetensors files. The input is taken twice: as a whole file, and as the JSON of a header, to which the
// length and data of the size that it speaks of are added. Both are compared with a reader over a tree of JSON.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "tensor/checkpoint.h"
#include "tensor/safetensors_layout.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/json_reference.h"
#include "tests/fuzz/memory_file.h"

namespace weightstream {
namespace {

using Json = nlohmann::json;

// Beyond this a file is parsed by its header alone.
constexpr uint64_t kMaxDataBytes = 64 << 10;
constexpr uint64_t kMaxFileBytes = ~uint64_t{0} >> 1;

bool AreUnsigned(const Json& value) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_number_unsigned(); });
}

absl::optional<PlacedTensor> ReferenceTensor(const std::string& name, const Json& entry) {
  if (!ValidateTensorName(name).ok() || !entry.is_object() || entry.size() != 3) return absl::nullopt;
  if (!entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets")) return absl::nullopt;
  const Json& offsets = entry["data_offsets"];
  if (!entry["dtype"].is_string() || !AreUnsigned(entry["shape"]) || !AreUnsigned(offsets) || offsets.size() != 2) {
    return absl::nullopt;
  }
  const absl::StatusOr<DType> dtype = ParseDType(entry["dtype"].get<std::string>());
  if (!dtype.ok()) return absl::nullopt;
  PlacedTensor tensor = {.spec = {name, *dtype, entry["shape"].get<std::vector<uint64_t>>()},
                         .range = {offsets[0].get<uint64_t>(), offsets[1].get<uint64_t>()}};
  const absl::StatusOr<uint64_t> bytes = TensorByteSize(tensor.spec);
  if (!bytes.ok() || tensor.range.begin > tensor.range.end || tensor.range.size() != *bytes) return absl::nullopt;
  return tensor;
}

// The tensors by name; nothing if the header breaks a rule of the format.
absl::optional<std::vector<PlacedTensor>> ReferenceTensors(absl::string_view header, uint64_t data_bytes) {
  const absl::string_view text = header.substr(0, header.find_last_not_of(' ') + 1);
  if (text.empty() || text.front() != '{') return absl::nullopt;
  const absl::optional<JsonReference> json = ReadJson(text);
  if (text.back() != '}' || !json.has_value() || !json->repeated.empty()) return absl::nullopt;
  std::vector<PlacedTensor> tensors;
  for (const auto& [name, entry] : json->value.items()) {
    if (name == "__metadata__") {
      const auto is_text = [](const Json& value) { return value.is_string(); };
      if (!entry.is_object() || !std::all_of(entry.begin(), entry.end(), is_text)) return absl::nullopt;
      continue;
    }
    absl::optional<PlacedTensor> tensor = ReferenceTensor(name, entry);
    if (!tensor.has_value()) return absl::nullopt;
    tensors.push_back(*std::move(tensor));
  }
  ByteRanges ranges;
  for (const PlacedTensor& tensor : tensors) ranges.push_back(tensor.range);
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t position = 0;
  for (const ByteRange& range : ranges) {
    if (range.begin != position) return absl::nullopt;
    position = range.end;
  }
  if (position != data_bytes) return absl::nullopt;
  return tensors;
}

void SortByName(std::vector<PlacedTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const PlacedTensor& a, const PlacedTensor& b) { return a.spec.name < b.spec.name; });
}

// What was read can be written, as it is and as Weightstream lays it out, and reads the same again.
void CheckRoundTrips(const SafetensorsLayout& layout) {
  const absl::StatusOr<SafetensorsLayout> again =
      ParseSafetensors("again", EncodeSafetensorsHeader(layout), layout.file_bytes());
  Require(again.ok() && *again == layout, "a header that was read reads the same once written",
          again.status().ToString());

  std::vector<TensorSpec> specs;
  for (const PlacedTensor& tensor : layout.tensors) specs.push_back(tensor.spec);
  const absl::StatusOr<SafetensorsLayout> ours = LayOutSafetensors(specs, layout.metadata);
  Require(ours.ok() == (layout.data_bytes <= kMaxFileBytes), "what was read can be laid out", ours.status().ToString());
  if (!ours.ok()) return;
  Require(ours->data_bytes == layout.data_bytes, "laying out keeps the sum");
  const absl::StatusOr<SafetensorsLayout> parsed =
      ParseSafetensors("ours", EncodeSafetensorsHeader(*ours), ours->file_bytes());
  Require(parsed.ok() && *parsed == *ours, "what we lay out we read", parsed.status().ToString());
}

// Judges `bytes`, the first of a file of this length.
absl::StatusOr<SafetensorsLayout> CheckHeader(absl::string_view bytes, uint64_t file_bytes) {
  absl::StatusOr<SafetensorsLayout> layout = ParseSafetensors("file", bytes, file_bytes);
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < std::min(bytes.size(), kSafetensorsPrefixBytes); ++i) {
    header_bytes |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  absl::optional<std::vector<PlacedTensor>> expected;
  if (bytes.size() >= kSafetensorsPrefixBytes && header_bytes <= bytes.size() - kSafetensorsPrefixBytes) {
    expected = ReferenceTensors(bytes.substr(kSafetensorsPrefixBytes, header_bytes),
                                file_bytes - kSafetensorsPrefixBytes - header_bytes);
  }
  Require(layout.ok() == expected.has_value(), "a file is judged by the rules of its format",
          layout.status().ToString());
  if (!layout.ok()) {
    RequireClearError(layout.status());
    return layout;
  }
  std::vector<PlacedTensor> tensors = layout->tensors;
  SortByName(tensors);
  SortByName(*expected);
  Require(tensors == *expected, "every tensor is what the tree of JSON says");
  Require(layout->file_bytes() == file_bytes, "the layout is the whole file");
  CheckRoundTrips(*layout);
  return layout;
}

void CheckFile(absl::string_view bytes) {
  const absl::StatusOr<SafetensorsLayout> layout = CheckHeader(bytes, bytes.size());
  const MemoryFile file(bytes);
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(file.path());
  Require(checkpoint.ok() == layout.ok(), "a checkpoint opens if its file is one", checkpoint.status().ToString());
  if (!checkpoint.ok()) return RequireClearError(checkpoint.status());
  Require(checkpoint->tensors().size() == layout->tensors.size(), "a checkpoint has its file's tensors");
  for (size_t i = 0; i < layout->tensors.size(); ++i) {
    const ByteRange range = layout->tensors[i].range;
    Require(checkpoint->tensors()[i].data == bytes.substr(layout->data_start + range.begin, range.size()),
            "a tensor's data are the file's bytes");
  }
}

// The end of the last tensor that the header speaks of, whether or not the rest of it makes sense.
uint64_t DataBytesOf(absl::string_view json) {
  const absl::optional<JsonReference> reference = ReadJson(json);
  uint64_t data_bytes = 0;
  if (!reference.has_value() || !reference->value.is_object()) return 0;
  for (const Json& entry : reference->value) {
    if (!entry.is_object() || !entry.contains("data_offsets") || !AreUnsigned(entry["data_offsets"])) continue;
    for (const Json& offset : entry["data_offsets"]) data_bytes = std::max(data_bytes, offset.get<uint64_t>());
  }
  return data_bytes;
}

std::string PrefixOf(uint64_t header_bytes) {
  std::string prefix;
  for (uint64_t i = 0; i < kSafetensorsPrefixBytes; ++i) prefix += static_cast<char>(header_bytes >> (8 * i));
  return prefix;
}

}  // namespace
}  // namespace weightstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  CheckFile(input);

  std::string file = absl::StrCat(PrefixOf(size), input);
  const uint64_t data_bytes = DataBytesOf(input);
  if (data_bytes <= kMaxDataBytes) {
    for (uint64_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i * 7);
    CheckFile(file);
  } else if (data_bytes <= ~uint64_t{0} - file.size()) {
    static_cast<void>(CheckHeader(file, file.size() + data_bytes));
  }
  return 0;
}
