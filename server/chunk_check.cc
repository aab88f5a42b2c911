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

}  // namespace

absl::StatusOr<CheckedChunk> CheckChunk(const Update& update, const ChunkHeader& header, uint64_t data_bytes) {
  const absl::optional<uint32_t> index = update.FindTensor(header.name);
  if (!index.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(Subject(header), ": the manifest of version ",
                                                   update.identity().version, " of model '", update.identity().model,
                                                   "' has no such tensor; send only tensors that BeginUpdate named"));
  }
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
  // Not offset + size: that may overflow.
  if (header.offset > tensor_bytes || data_bytes > tensor_bytes - header.offset) {
    return absl::InvalidArgumentError(absl::StrCat(Subject(header), " covers ", data_bytes, " bytes from offset ",
                                                   header.offset, ", past the tensor's end at ", tensor_bytes,
                                                   "; offsets are bytes into the tensor"));
  }
  if (!header.crc32c.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Subject(header), " at offset ", header.offset, " has no crc32c; set it to the CRC32C of data"));
  }
  return CheckedChunk{*index, {header.offset, header.offset + data_bytes}, *header.crc32c};
}

}  // namespace weightstream
