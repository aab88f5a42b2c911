#include "client/held_form.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cast.h"
#include "tensor/dtype.h"

namespace weightstream {
namespace {

// Cut and cast at a time: within the cache, and whole elements of any dtype that can be sliced or cast.
constexpr uint64_t kPieceBytes = 256 << 10;

absl::Status BadForm(const TensorSpec& spec, const absl::Status& why) {
  return absl::InternalError(absl::StrCat("the server's digest of tensor \"", Printable(spec.name),
                                          "\" says of what is held of it: ", why.message()));
}

}  // namespace

absl::StatusOr<HeldForm> HeldForm::Of(const TensorSpec& spec, const v1::TensorDigest& digest) {
  absl::optional<TensorSlice> slice;
  std::vector<std::string> words;
  absl::optional<FloatCast> cast;
  if (!digest.held_dtype().empty()) {
    const absl::StatusOr<DType> dtype = ParseDType(digest.held_dtype());
    if (!dtype.ok()) return BadForm(spec, dtype.status());
    const absl::StatusOr<FloatCast> found = FindFloatCast(spec.dtype, *dtype);
    if (!found.ok()) return BadForm(spec, found.status());
    cast = *found;
    words.push_back(digest.held_dtype());
  }
  if (digest.has_slice()) {
    slice = TensorSlice{digest.slice().dimension(), digest.slice().begin(), digest.slice().end()};
    words.push_back(absl::StrCat("[", slice->begin, ", ", slice->end, ") of dimension ", slice->dimension));
  }
  const absl::StatusOr<SliceMap> map = SliceMap::Create(spec, slice);
  if (!map.ok()) return BadForm(spec, map.status());
  return HeldForm(*map, cast, absl::StrJoin(words, ", "));
}

uint64_t HeldForm::bytes() const {
  return cast_.has_value() ? map_.bytes() / CastSourceBytes(*cast_) * CastDestinationBytes(*cast_) : map_.bytes();
}

void HeldForm::ForEachPiece(absl::string_view tensor,
                            absl::FunctionRef<void(absl::string_view held, uint64_t taken)> use) const {
  std::string piece;
  std::string cast;
  for (uint64_t at = 0; at < tensor.size(); at += kPieceBytes) {
    const absl::string_view source = tensor.substr(at, kPieceBytes);
    const ByteRange range{at, at + source.size()};
    piece.assign(source.data(), source.size());
    map_.Compact(range, piece.data());
    piece.resize(map_.Map(range).size());
    if (!cast_.has_value()) {
      use(piece, source.size());
      continue;
    }
    const uint64_t elements = piece.size() / CastSourceBytes(*cast_);
    cast.resize(elements * CastDestinationBytes(*cast_));
    CastElements(*cast_, piece.data(), cast.data(), elements);
    use(cast, source.size());
  }
}

}  // namespace weightstream
