#include "server/chunk_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/dtype.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

std::string Subject(const ChunkHeader& header) {
  return absl::StrCat("chunk of tensor '", Printable(header.name), "'");
}

absl::Status UnknownTensor(const Update& update, const ChunkHeader& header, absl::string_view name) {
  return absl::InvalidArgumentError(absl::StrCat(
      Subject(header), ": the manifest of version ", update.identity().version, " of model '", update.identity().model,
      "' has no ", name == header.name ? "such tensor" : absl::StrCat("tensor '", Printable(name), "'"),
      "; send only tensors that BeginUpdate named"));
}

// Adds the tensors that follow, after the named one's part. `chunk` has the payload's size.
absl::Status AddFollowing(const Update& update, const ChunkHeader& header, uint64_t named_tensor_bytes,
                          CheckedChunk& chunk) {
  // Not offset + size: that may overflow.
  if (header.offset > named_tensor_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(Subject(header), " starts at offset ", header.offset,
                                                   ", past the tensor's end at ", named_tensor_bytes));
  }
  chunk.parts[0].range.end = named_tensor_bytes;
  uint64_t bytes = named_tensor_bytes - header.offset;
  for (const absl::string_view name : header.followed_by) {
    // A sender that packs in the layout's order spares the search.
    const absl::optional<uint32_t> index = update.FindTensor(name, chunk.parts.back().tensor + 1);
    if (!index.has_value()) return UnknownTensor(update, header, name);
    const uint64_t tensor_bytes = update.layout().tensors[*index].range.size();
    chunk.parts.push_back({*index, {0, tensor_bytes}});
    bytes += tensor_bytes;
    // Also keeps the sum from overflowing.
    if (bytes > chunk.bytes) break;
  }
  if (bytes == chunk.bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(Subject(header), " and the ", header.followed_by.size(),
                                                 " that follow it carries ", chunk.bytes, " bytes, but they have ",
                                                 bytes, bytes > chunk.bytes ? " or more" : "",
                                                 " from the chunk's offset on; send all that follow whole"));
}

}  // namespace

absl::StatusOr<CheckedChunk> CheckChunk(const Update& update, const ChunkHeader& header, uint64_t data_bytes) {
  const absl::optional<uint32_t> index = update.FindTensor(header.name);
  if (!index.has_value()) return UnknownTensor(update, header, header.name);
  const PlacedTensor& placed = update.layout().tensors[*index];
  const TensorSpec& spec = placed.spec;
  if (header.dtype != DTypeName(spec.dtype) ||
      !std::equal(header.shape.begin(), header.shape.end(), spec.shape.begin(), spec.shape.end())) {
    return absl::InvalidArgumentError(absl::StrCat(Subject(header), " says ", Printable(header.dtype), "[",
                                                   absl::StrJoin(header.shape, ", "), "], but the manifest says ",
                                                   ShapeString(spec.dtype, spec.shape),
                                                   "; send the dtype and shape that BeginUpdate named"));
  }
  if (data_bytes > update.bucket_limit_bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat(Subject(header), " carries ", data_bytes,
                                                     " bytes, over the bucket limit of ", update.bucket_limit_bytes(),
                                                     "; cut the tensor into smaller chunks"));
  }
  const uint64_t tensor_bytes = placed.range.size();
  if (!header.crc32c.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Subject(header), " at offset ", header.offset, " has no crc32c; set it to the CRC32C of data"));
  }
  CheckedChunk chunk{{{*index, {header.offset, header.offset + data_bytes}}}, data_bytes, *header.crc32c};
  if (!header.followed_by.empty()) {
    if (absl::Status added = AddFollowing(update, header, tensor_bytes, chunk); !added.ok()) return added;
    return chunk;
  }
  if (header.offset > tensor_bytes || data_bytes > tensor_bytes - header.offset) {
    return absl::InvalidArgumentError(absl::StrCat(Subject(header), " covers ", data_bytes, " bytes from offset ",
                                                   header.offset, ", past the tensor's end at ", tensor_bytes,
                                                   "; offsets are bytes into the tensor"));
  }
  return chunk;
}

}  // namespace weightstream
