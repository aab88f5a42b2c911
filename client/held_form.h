// What a server's registered targets hold of a tensor (TensorDigest), computed from the tensor itself: so that the two
// can be compared by their digests.
#ifndef WEIGHTSTREAM_CLIENT_HELD_FORM_H_
#define WEIGHTSTREAM_CLIENT_HELD_FORM_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "kernels/cast_element.h"
#include "tensor/spec.h"
#include "tensor/tensor_slice.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Immutable.
class HeldForm {
 public:
  // INTERNAL, naming the tensor, if the digest says of it what cannot be: an unknown dtype, no cast to it, a slice that
  // leaves the tensor.
  static absl::StatusOr<HeldForm> Of(const TensorSpec& spec, const v1::TensorDigest& digest);

  // True if it is the tensor as it is.
  bool as_pushed() const { return map_.whole() && !cast_.has_value(); }
  // What is held, in bytes.
  uint64_t bytes() const;
  // "BF16, [0, 8) of dimension 1"; empty as pushed.
  const std::string& text() const { return text_; }

  // Calls use(bytes, taken) for consecutive pieces of what is held, each made of the next `taken` bytes of `tensor`,
  // which are all of it.
  void ForEachPiece(absl::string_view tensor,
                    absl::FunctionRef<void(absl::string_view held, uint64_t taken)> use) const;

 private:
  HeldForm(SliceMap map, absl::optional<FloatCast> cast, std::string text)
      : map_(map), cast_(cast), text_(std::move(text)) {}

  SliceMap map_;
  absl::optional<FloatCast> cast_;
  std::string text_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_HELD_FORM_H_
