#include "tensor/safetensors_layout.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensor/name_order.h"
#include "tensor/safetensors_header.h"
#include "tensor/safetensors_header_text.h"

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

bool IsInLayoutOrder(absl::Span<const TensorSpec> tensors) {
  const auto out_of_order = [](const TensorSpec& a, const TensorSpec& b) {
    const int first = DTypeAlignment(a.dtype);
    const int second = DTypeAlignment(b.dtype);
    return first != second ? first < second : a.name > b.name;
  };
  return std::adjacent_find(tensors.begin(), tensors.end(), out_of_order) == tensors.end();
}

// Refuses what would pass the format's cap.
absl::StatusOr<uint64_t> DataStart(const HeaderText& header, size_t tensors) {
  const uint64_t data_start = RoundUp(header.bytes(), kSafetensorsDataAlignment);
  if (data_start - kSafetensorsPrefixBytes <= kMaxSafetensorsHeaderBytes) return data_start;
  return absl::InvalidArgumentError(absl::StrCat("the safetensors header of these ", tensors, " tensors would be ",
                                                 data_start - kSafetensorsPrefixBytes,
                                                 " bytes long; the format allows ", kMaxSafetensorsHeaderBytes,
                                                 "; shorten names or metadata, or split the model"));
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

std::vector<uint32_t> LayoutOrder(absl::Span<const TensorSpec> tensors) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  // Our own sender has brought them into this order.
  if (IsInLayoutOrder(tensors)) return order;
  // Falling alignments align every tensor without holes: what lies before one is a multiple of its own alignment.
  std::map<int, std::vector<uint32_t>, std::greater<>> by_alignment;
  for (const uint32_t index : order) by_alignment[DTypeAlignment(tensors[index].dtype)].push_back(index);
  order.clear();
  for (auto& [alignment, group] : by_alignment) {
    SortByName(tensors, absl::MakeSpan(group));
    order.insert(order.end(), group.begin(), group.end());
  }
  return order;
}

absl::StatusOr<SafetensorsLayout> LayOutSafetensors(std::vector<TensorSpec> tensors, Metadata metadata,
                                                    std::string* header) {
  const absl::StatusOr<uint64_t> total_bytes = ValidateManifest(tensors);
  if (!total_bytes.ok()) return total_bytes.status();
  if (absl::Status status = CheckMetadata(metadata); !status.ok()) return status;

  SafetensorsLayout layout;
  layout.metadata = std::move(metadata);
  layout.tensors.reserve(tensors.size());
  HeaderText text(layout.metadata, tensors.size());
  for (const uint32_t index : LayoutOrder(tensors)) {
    TensorSpec& spec = tensors[index];
    const ByteRange range{layout.data_bytes, layout.data_bytes + TensorByteSize(spec).value()};
    text.Add(spec, range);
    layout.tensors.push_back({.spec = std::move(spec), .range = range});
    layout.data_bytes = range.end;
  }
  const absl::StatusOr<uint64_t> data_start = DataStart(text, tensors.size());
  if (!data_start.ok()) return data_start.status();
  layout.data_start = *data_start;
  if (header != nullptr) *header = std::move(text).Finish(layout.data_start);
  return layout;
}

absl::StatusOr<std::string> SafetensorsHeaderInOrder(absl::Span<const TensorSpec> tensors,
                                                     absl::Span<const uint32_t> order, const Metadata& metadata) {
  if (absl::Status status = CheckMetadata(metadata); !status.ok()) return status;
  HeaderText text(metadata, tensors.size());
  uint64_t position = 0;
  for (const uint32_t index : order) {
    const absl::StatusOr<uint64_t> bytes = TensorByteSize(tensors[index]);
    if (!bytes.ok()) return bytes.status();
    text.Add(tensors[index], {position, position + *bytes});
    position += *bytes;
  }
  const absl::StatusOr<uint64_t> data_start = DataStart(text, tensors.size());
  if (!data_start.ok()) return data_start.status();
  return std::move(text).Finish(*data_start);
}

absl::optional<uint32_t> FindInLayout(const SafetensorsLayout& layout, absl::string_view name) {
  const std::vector<PlacedTensor>& tensors = layout.tensors;
  for (auto group = tensors.begin(); group != tensors.end();) {
    const int alignment = DTypeAlignment(group->spec.dtype);
    const auto group_end = std::partition_point(
        group, tensors.end(), [&](const PlacedTensor& t) { return DTypeAlignment(t.spec.dtype) == alignment; });
    const auto found =
        std::partition_point(group, group_end, [&](const PlacedTensor& t) { return t.spec.name < name; });
    if (found != group_end && found->spec.name == name) return static_cast<uint32_t>(found - tensors.begin());
    group = group_end;
  }
  return absl::nullopt;
}

std::string EncodeSafetensorsHeader(const SafetensorsLayout& layout) {
  HeaderText text(layout.metadata, layout.tensors.size());
  for (const PlacedTensor& tensor : layout.tensors) text.Add(tensor.spec, tensor.range);
  return std::move(text).Finish(layout.data_start);
}

}  // namespace weightstream
