#include "tensor/tensor_slice.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tensor/dtype.h"

namespace weightstream {
namespace {

constexpr int kByteBits = 8;

absl::Status CheckSlice(const TensorSpec& tensor, const TensorSlice& slice) {
  const std::string subject =
      absl::StrCat("tensor '", Printable(tensor.name), "', ", ShapeString(tensor.dtype, tensor.shape), ": ");
  if (DTypeBits(tensor.dtype) % kByteBits != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, "its elements are packed within bytes and cannot be sliced; register the whole tensor"));
  }
  if (slice.dimension >= tensor.shape.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, "there is no dimension ", slice.dimension, " to slice; they are counted from 0"));
  }
  const uint64_t size = tensor.shape[slice.dimension];
  if (slice.begin >= slice.end || slice.end > size) {
    return absl::InvalidArgumentError(absl::StrCat(subject, "the slice [", slice.begin, ", ", slice.end,
                                                   ") is empty or leaves dimension ", slice.dimension, ", which has ",
                                                   size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SliceMap> SliceMap::Create(const TensorSpec& tensor, const absl::optional<TensorSlice>& slice) {
  const absl::StatusOr<uint64_t> bytes = TensorByteSize(tensor);
  if (!bytes.ok()) return bytes.status();
  if (!slice.has_value()) return SliceMap(1, *bytes, 0, *bytes);
  if (absl::Status checked = CheckSlice(tensor, *slice); !checked.ok()) return checked;
  // Products of these fit 64 bits, unless another dimension is 0: then there is nothing to map.
  if (*bytes == 0) return SliceMap(1, 0, 0, 0);
  uint64_t inner = static_cast<uint64_t>(DTypeBits(tensor.dtype) / kByteBits);
  for (size_t i = slice->dimension + size_t{1}; i < tensor.shape.size(); ++i) inner *= tensor.shape[i];
  const uint64_t stride = tensor.shape[slice->dimension] * inner;
  return SliceMap(*bytes / stride, stride, slice->begin * inner, (slice->end - slice->begin) * inner);
}

uint64_t SliceMap::Before(uint64_t in_tensor) const {
  if (stride_bytes_ == 0) return 0;
  const uint64_t rest = in_tensor % stride_bytes_;
  const uint64_t in_part = rest - std::min(rest, first_byte_);
  return in_tensor / stride_bytes_ * part_bytes_ + std::min(in_part, part_bytes_);
}

void SliceMap::Compact(ByteRange in_tensor, char* bytes) const {
  if (whole()) return;
  char* to = bytes;
  for (uint64_t piece = in_tensor.begin / stride_bytes_ * stride_bytes_; piece < in_tensor.end;
       piece += stride_bytes_) {
    const uint64_t begin = std::max(in_tensor.begin, piece + first_byte_);
    const uint64_t end = std::min(in_tensor.end, piece + first_byte_ + part_bytes_);
    if (begin >= end) continue;
    std::memmove(to, bytes + (begin - in_tensor.begin), end - begin);
    to += end - begin;
  }
}

}  // namespace weightstream
