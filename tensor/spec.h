// What a tensor is, without its bytes, and the rules that names, shapes and whole manifests must keep.
//
// Everything here is pure and may be called from any thread. Errors name the tensor, what is wrong and what to do.
#ifndef WEIGHTSTREAM_TENSOR_SPEC_H_
#define WEIGHTSTREAM_TENSOR_SPEC_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensor/dtype.h"
#include "tensor/text.h"  // IWYU pragma: export

namespace weightstream {

// Longest tensor name, in bytes. Real names stay under 200; the limit keeps headers and messages small.
inline constexpr size_t kMaxTensorNameBytes = 4096;
// Most dimensions of a shape. NumPy's own limit is 64.
inline constexpr size_t kMaxTensorRank = 64;
// Longest model name, in characters; it becomes a folder's name.
inline constexpr size_t kMaxModelNameBytes = 128;

// Elements along each dimension, row-major; none is a scalar, a 0 an empty tensor. As a std::vector, but for the two
// dimensions that most weights have there is no allocation: a manifest may have 100,000 tensors.
class Shape : public absl::InlinedVector<uint64_t, 2> {
 public:
  using absl::InlinedVector<uint64_t, 2>::InlinedVector;
  Shape() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): whoever has a vector may give that.
  Shape(const std::vector<uint64_t>& dimensions) : InlinedVector(dimensions.begin(), dimensions.end()) {}
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

// Free-form text kept with a version (safetensors' __metadata__).
using Metadata = std::map<std::string, std::string>;

// Bytes of a tensor of this dtype and shape. INVALID_ARGUMENT if the product overflows 64 bits, if the shape has too
// many dimensions, or if packed elements do not fill whole bytes. `name` is for the error only.
absl::StatusOr<uint64_t> TensorByteSize(absl::string_view name, DType dtype, absl::Span<const uint64_t> shape);
absl::StatusOr<uint64_t> TensorByteSize(const TensorSpec& spec);

// "F32[128, 512]": for messages. Dimensions past kMaxTensorRank are left out.
std::string ShapeString(DType dtype, absl::Span<const uint64_t> shape);

// 1 to kMaxTensorNameBytes bytes of UTF-8 without NUL, and not "__metadata__", which safetensors reserves.
absl::Status ValidateTensorName(absl::string_view name);

// 1 to kMaxModelNameBytes characters of A-Z a-z 0-9 . _ - with a letter or a digit first.
absl::Status ValidateModelName(absl::string_view name);

// Every name valid and unique, every size computable, the sum within 63 bits. Returns the sum, in bytes.
absl::StatusOr<uint64_t> ValidateManifest(absl::Span<const TensorSpec> tensors);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SPEC_H_
