// Element types of tensors, under the names and with the sizes that the safetensors format gives them.
//
// Source of names and sizes: the safetensors format (huggingface/safetensors, README "Format" and its Dtype enum).
// Everything here is pure and may be called from any thread.
#ifndef WEIGHTSTREAM_TENSOR_DTYPE_H_
#define WEIGHTSTREAM_TENSOR_DTYPE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

enum class DType : uint8_t {
  kBool,
  kF4,      // packed, two elements a byte
  kF6E2M3,  // packed, four elements in three bytes
  kF6E3M2,  // packed, four elements in three bytes
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

inline constexpr int kDTypeCount = static_cast<int>(DType::kU64) + 1;

// The type called `name` ("BF16", "F8_E4M3", ...; case matters). INVALID_ARGUMENT, listing the known names, otherwise.
absl::StatusOr<DType> ParseDType(absl::string_view name);

// The inverse of ParseDType. The view lives for ever.
absl::string_view DTypeName(DType dtype);

// Bits that one element takes: 4 or 6 for the packed types, a multiple of 8 for the others.
int DTypeBits(DType dtype);

// Bytes to which the start of a tensor of this type must be aligned so that elements can be read in place: the element
// size, and 1 for the packed types. C64 is a pair of F32, and still aligned to 8 here, as numpy does.
int DTypeAlignment(DType dtype);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_DTYPE_H_
