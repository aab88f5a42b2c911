#include "tensor/safetensors_layout.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/json_events.h"
#include "tensor/safetensors_header.h"

namespace weightstream {
namespace {

uint64_t RoundUp(uint64_t bytes, uint64_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

// Tensors that lie at the same place, all but the last of them empty, keep their order: the header's.
bool LiesBefore(const PlacedTensor& a, const PlacedTensor& b) {
  return std::tie(a.range.begin, a.range.end) < std::tie(b.range.begin, b.range.end);
}

absl::Status FileError(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// The header's length in bytes, from the file's first eight, checked against the format and the file.
absl::StatusOr<uint64_t> HeaderBytes(absl::string_view path, absl::string_view prefix, uint64_t file_bytes) {
  if (file_bytes < kSafetensorsPrefixBytes || prefix.size() < kSafetensorsPrefixBytes) {
    return FileError(path,
                     absl::StrCat("the file is ", std::min<uint64_t>(file_bytes, prefix.size()),
                                  " bytes long, too short for a safetensors file; it is truncated or another format"));
  }
  uint64_t header_bytes = 0;
  for (uint64_t i = 0; i < kSafetensorsPrefixBytes; ++i) {
    header_bytes |= uint64_t{static_cast<uint8_t>(prefix[i])} << (8 * i);
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return FileError(path, absl::StrCat("its header would be ", header_bytes, " bytes long; the format allows ",
                                        kMaxSafetensorsHeaderBytes, "; is this a safetensors file?"));
  }
  if (header_bytes > std::min<uint64_t>(file_bytes, prefix.size()) - kSafetensorsPrefixBytes) {
    return FileError(path, absl::StrCat("its header of ", header_bytes, " bytes does not fit into the file's ",
                                        std::min<uint64_t>(file_bytes, prefix.size()),
                                        " bytes; the file is truncated: fetch it again"));
  }
  return header_bytes;
}

// Checks that sorted tensors cover the data section from 0 on without holes or overlaps. Returns its length.
absl::StatusOr<uint64_t> CheckPlaces(absl::string_view path, const std::vector<PlacedTensor>& tensors) {
  uint64_t position = 0;
  absl::string_view previous;
  for (const PlacedTensor& tensor : tensors) {
    const uint64_t begin = tensor.range.begin;
    if (begin != position) {
      return FileError(path, absl::StrCat("tensor \"", Printable(tensor.spec.name), "\" starts at ", begin,
                                          begin < position ? ", inside \"" : ", leaving a hole after \"",
                                          Printable(previous), "\", which ends at ", position,
                                          "; tensors must follow each other without overlap or hole"));
    }
    position = tensor.range.end;
    previous = tensor.spec.name;
  }
  return position;
}

absl::Status CheckDataLength(absl::string_view path, uint64_t data_bytes, uint64_t bytes_in_file) {
  if (data_bytes > bytes_in_file) {
    return FileError(path, absl::StrCat("the file is truncated: its header describes ", data_bytes,
                                        " bytes of tensors, and ", bytes_in_file, " are there; fetch it again"));
  }
  if (data_bytes < bytes_in_file) {
    return FileError(
        path, absl::StrCat("the file has ", bytes_in_file - data_bytes, " bytes after the last tensor, which ends at ",
                           data_bytes, "; the format allows none"));
  }
  return absl::OkStatus();
}

absl::Status CheckMetadata(const Metadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (!IsValidUtf8(key) || !IsValidUtf8(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metadata \"", Printable(key), "\": key and value must be valid UTF-8"));
    }
  }
  return absl::OkStatus();
}

// The JSON without padding, in the order of the layout, without blanks: the shortest text that says it.
std::string HeaderJson(const SafetensorsLayout& layout) {
  std::string json = "{";
  if (!layout.metadata.empty()) {
    const auto append_pair = [](std::string* out, const Metadata::value_type& pair) {
      absl::StrAppend(out, JsonString(pair.first), ":", JsonString(pair.second));
    };
    absl::StrAppend(&json, "\"__metadata__\":{", absl::StrJoin(layout.metadata, ",", append_pair), "}");
  }
  for (const PlacedTensor& tensor : layout.tensors) {
    absl::StrAppend(&json, json.size() == 1 ? "" : ",", JsonString(tensor.spec.name), ":{\"dtype\":\"",
                    DTypeName(tensor.spec.dtype), "\",\"shape\":[", absl::StrJoin(tensor.spec.shape, ","));
    absl::StrAppend(&json, "],\"data_offsets\":[", tensor.range.begin, ",", tensor.range.end, "]}");
  }
  return absl::StrCat(json, "}");
}

}  // namespace

absl::StatusOr<SafetensorsLayout> ParseSafetensors(absl::string_view path, absl::string_view prefix,
                                                   uint64_t file_bytes) {
  const absl::StatusOr<uint64_t> header_bytes = HeaderBytes(path, prefix, file_bytes);
  if (!header_bytes.ok()) return header_bytes.status();
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(path, prefix.substr(kSafetensorsPrefixBytes, *header_bytes));
  if (!header.ok()) return header.status();

  SafetensorsLayout layout;
  layout.tensors = std::move(header->tensors);
  layout.metadata = std::move(header->metadata);
  layout.data_start = kSafetensorsPrefixBytes + *header_bytes;
  std::stable_sort(layout.tensors.begin(), layout.tensors.end(), LiesBefore);
  const absl::StatusOr<uint64_t> data_bytes = CheckPlaces(path, layout.tensors);
  if (!data_bytes.ok()) return data_bytes.status();
  layout.data_bytes = *data_bytes;
  if (absl::Status status = CheckDataLength(path, *data_bytes, file_bytes - layout.data_start); !status.ok()) {
    return status;
  }
  return layout;
}

absl::StatusOr<SafetensorsLayout> LayOutSafetensors(std::vector<TensorSpec> tensors, Metadata metadata) {
  const absl::StatusOr<uint64_t> total_bytes = ValidateManifest(tensors);
  if (!total_bytes.ok()) return total_bytes.status();
  if (absl::Status status = CheckMetadata(metadata); !status.ok()) return status;

  SafetensorsLayout layout;
  layout.metadata = std::move(metadata);
  // Falling alignments align every tensor without holes: what lies before one is a multiple of its own alignment.
  // Pointers are sorted, not the specs: to move those is most of what sorting 100,000 of them would cost.
  std::vector<TensorSpec*> order;
  order.reserve(tensors.size());
  for (TensorSpec& spec : tensors) order.push_back(&spec);
  std::sort(order.begin(), order.end(), [](const TensorSpec* a, const TensorSpec* b) {
    const int a_alignment = DTypeAlignment(a->dtype);
    const int b_alignment = DTypeAlignment(b->dtype);
    return a_alignment != b_alignment ? a_alignment > b_alignment : a->name < b->name;
  });
  layout.tensors.reserve(tensors.size());
  for (TensorSpec* spec : order) {
    const ByteRange range{layout.data_bytes, layout.data_bytes + TensorByteSize(*spec).value()};
    layout.tensors.push_back({.spec = std::move(*spec), .range = range});
    layout.data_bytes = range.end;
  }
  layout.data_start = RoundUp(kSafetensorsPrefixBytes + HeaderJson(layout).size(), kSafetensorsDataAlignment);
  if (layout.data_start - kSafetensorsPrefixBytes > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the safetensors header of these ", tensors.size(),
                                                   " tensors would be ", layout.data_start - kSafetensorsPrefixBytes,
                                                   " bytes long; the format allows ", kMaxSafetensorsHeaderBytes,
                                                   "; shorten names or metadata, or split the model"));
  }
  return layout;
}

std::string EncodeSafetensorsHeader(const SafetensorsLayout& layout) {
  std::string json = HeaderJson(layout);
  const uint64_t unpadded_bytes = kSafetensorsPrefixBytes + json.size();
  if (unpadded_bytes < layout.data_start) json.append(layout.data_start - unpadded_bytes, ' ');
  std::string header;
  header.reserve(kSafetensorsPrefixBytes + json.size());
  for (uint64_t i = 0; i < kSafetensorsPrefixBytes; ++i) header.push_back(static_cast<char>(json.size() >> (8 * i)));
  return header + json;
}

}  // namespace weightstream
