// The safetensors file format: parsing a header, and laying a manifest out as a file.
//
// The format (huggingface/safetensors, README "Format"): 8 bytes of little-endian header length N, N bytes of JSON,
// then the data section. The JSON maps each tensor's name to {"dtype", "shape", "data_offsets": [begin, end]}, offsets
// relative to the data section, plus an optional "__metadata__" of strings. The data section has no holes and no
// overlaps.
//
// Everything here is pure and may be called from any thread.
#ifndef WEIGHTSTREAM_TENSOR_SAFETENSORS_LAYOUT_H_
#define WEIGHTSTREAM_TENSOR_SAFETENSORS_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"

namespace weightstream {

// The format's own cap on the JSON header, in bytes.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
// Bytes before the JSON.
inline constexpr uint64_t kSafetensorsPrefixBytes = 8;
// To what we align the data section, so that it starts on a page.
inline constexpr uint64_t kSafetensorsDataAlignment = 4096;

struct PlacedTensor {
  TensorSpec spec;
  // In the data section, in bytes.
  ByteRange range;

  friend bool operator==(const PlacedTensor&, const PlacedTensor&) = default;
};

// A whole file, without its data.
struct SafetensorsLayout {
  // By place in the data section: ascending range.begin; empty tensors come before the one that starts where they lie.
  std::vector<PlacedTensor> tensors;
  Metadata metadata;
  // Where the data section starts in the file, and how long it is, in bytes.
  uint64_t data_start = 0;
  uint64_t data_bytes = 0;

  uint64_t file_bytes() const { return data_start + data_bytes; }

  friend bool operator==(const SafetensorsLayout&, const SafetensorsLayout&) = default;
};

// Parses the header of a file of `file_bytes` bytes. `prefix` is the file's first bytes: at least 8, and the whole
// header where the file has it. Enforces the format: the cap, valid JSON with nothing twice, valid names
// (ValidateTensorName), known dtypes, sizes that match shape and dtype, no holes, no overlaps, nothing outside the
// file, the data section exactly as long as the file has it. Stricter than huggingface/safetensors 0.8 where that lets
// through what its README forbids (duplicate names, text around the JSON, a null __metadata__), and in refusing unknown
// keys of a tensor's entry, which that ignores: a key that we do not know may change what the bytes mean.
// INVALID_ARGUMENT names `path` (for the message only), the tensor and the rule.
absl::StatusOr<SafetensorsLayout> ParseSafetensors(absl::string_view path, absl::string_view prefix,
                                                   uint64_t file_bytes);

// The order in which Weightstream lays tensors out, as indices into `tensors` (fewer than 2^32, names unique): by
// falling alignment of their dtype, then by name.
std::vector<uint32_t> LayoutOrder(absl::Span<const TensorSpec> tensors);

// Lays `tensors` out as Weightstream does: in LayoutOrder, the header padded with
// spaces so that the data section starts on a page. Each tensor is then aligned for its dtype without a hole.
// Deterministic: the same set of tensors and metadata gives the same layout, whatever their order. INVALID_ARGUMENT
// unless the manifest is valid (ValidateManifest) and the metadata UTF-8, or if the header would pass the format's cap.
// `header`, if given, becomes EncodeSafetensorsHeader of the result, which has to be written for its length anyway.
absl::StatusOr<SafetensorsLayout> LayOutSafetensors(std::vector<TensorSpec> tensors, Metadata metadata,
                                                    std::string* header = nullptr);

// The header that LayOutSafetensors would give, from tensors that stay where they are. Requires a valid manifest and
// its LayoutOrder. INVALID_ARGUMENT where LayOutSafetensors gives none for a valid manifest.
absl::StatusOr<std::string> SafetensorsHeaderInOrder(absl::Span<const TensorSpec> tensors,
                                                     absl::Span<const uint32_t> order, const Metadata& metadata);

// The index in layout.tensors of the tensor of this name. Requires a layout from LayOutSafetensors: takes a binary
// search for each alignment that occurs.
absl::optional<uint32_t> FindInLayout(const SafetensorsLayout& layout, absl::string_view name);

// The first data_start bytes of the file that `layout` describes: length, JSON, padding.
// Requires a layout from LayOutSafetensors or ParseSafetensors; the result is exactly data_start long. (For a parsed
// one it need not be what the file had, byte for byte, but it parses to the same layout: our JSON is the shortest
// form.)
std::string EncodeSafetensorsHeader(const SafetensorsLayout& layout);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_LAYOUT_H_
