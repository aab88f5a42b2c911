// The part of a tensor that a target holds, where it holds a part (tensor parallelism): elements [begin, end) along one
// dimension, row-major and without holes. Pure, any thread.
//
// Bytes of the part keep the tensor's order. So a range of the tensor becomes one range of the part, however many
// pieces of it are left out in between: the bytes that are left have only to be moved together.
#ifndef WEIGHTSTREAM_TENSOR_TENSOR_SLICE_H_
#define WEIGHTSTREAM_TENSOR_TENSOR_SLICE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"

namespace weightstream {

struct TensorSlice {
  uint32_t dimension = 0;
  // In elements along the dimension.
  uint64_t begin = 0;
  uint64_t end = 0;

  friend bool operator==(const TensorSlice&, const TensorSlice&) = default;
};

// Which bytes of a tensor are in a slice of it, and where.
class SliceMap {
 public:
  // The whole tensor without a slice. INVALID_ARGUMENT, naming the tensor, for a dimension that it does not have, a
  // range that is empty or leaves it, or a slice of elements that are packed within bytes.
  static absl::StatusOr<SliceMap> Create(const TensorSpec& tensor, const absl::optional<TensorSlice>& slice);

  // Of the part, in bytes.
  uint64_t bytes() const { return outer_ * part_bytes_; }
  bool whole() const { return part_bytes_ == stride_bytes_; }

  // Where in the part the bytes are that it has of this range of the tensor.
  ByteRange Map(ByteRange in_tensor) const { return {Before(in_tensor.begin), Before(in_tensor.end)}; }

  // `bytes` are this range of the tensor: moves those that are in the part to their start, in order. There are
  // Map(in_tensor).size() of them.
  void Compact(ByteRange in_tensor, char* bytes) const;

 private:
  SliceMap(uint64_t outer, uint64_t stride_bytes, uint64_t first_byte, uint64_t part_bytes)
      : outer_(outer), stride_bytes_(stride_bytes), first_byte_(first_byte), part_bytes_(part_bytes) {}

  // How many bytes of the part come before this byte of the tensor.
  uint64_t Before(uint64_t in_tensor) const;

  // The tensor is so many pieces of stride_bytes_, of each of which the part has part_bytes_, from first_byte_ on.
  uint64_t outer_;
  uint64_t stride_bytes_;
  uint64_t first_byte_;
  uint64_t part_bytes_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_TENSOR_SLICE_H_
