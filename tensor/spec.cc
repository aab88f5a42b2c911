#include "tensor/spec.h"

#include <algorithm>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "absl/numeric/int128.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weightstream {
namespace {

absl::Status TensorError(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(name), "\": ", what));
}

// Factors of 0 are kept out of the product, so that whether a shape is accepted does not depend on the order of its
// dimensions, and every reader of the format accepts it.
absl::StatusOr<uint64_t> ElementCount(absl::string_view name, DType dtype, absl::Span<const uint64_t> shape) {
  uint64_t count = 1;
  bool is_empty = false;
  for (const uint64_t dimension : shape) {
    if (dimension == 0) {
      is_empty = true;
    } else if (__builtin_mul_overflow(count, dimension, &count)) {
      return TensorError(name, absl::StrCat("shape ", ShapeString(dtype, shape),
                                            " has more elements than 64 bits can count; check its dimensions"));
    }
  }
  return is_empty ? 0 : count;
}

// Names that ascend are unique without a look at a table of all of them. A model of one dtype comes like this.
bool NamesAscend(absl::Span<const TensorSpec> tensors) {
  const auto not_above = [](const TensorSpec& a, const TensorSpec& b) { return a.name >= b.name; };
  return std::adjacent_find(tensors.begin(), tensors.end(), not_above) == tensors.end();
}

}  // namespace

absl::StatusOr<uint64_t> TensorByteSize(absl::string_view name, DType dtype, absl::Span<const uint64_t> shape) {
  if (shape.size() > kMaxTensorRank) {
    return TensorError(
        name, absl::StrCat("its shape has ", shape.size(), " dimensions; at most ", kMaxTensorRank, " are supported"));
  }
  const absl::StatusOr<uint64_t> elements = ElementCount(name, dtype, shape);
  if (!elements.ok()) return elements.status();
  const absl::uint128 bits = absl::uint128(*elements) * static_cast<uint64_t>(DTypeBits(dtype));
  if (bits % 8 != 0) {
    return TensorError(name, absl::StrCat("shape ", ShapeString(dtype, shape), " does not fill whole bytes (",
                                          DTypeBits(dtype), " bits an element); pad it"));
  }
  const absl::uint128 bytes = bits / 8;
  if (bytes > std::numeric_limits<uint64_t>::max()) {
    return TensorError(name, absl::StrCat("shape ", ShapeString(dtype, shape),
                                          " has more bytes than 64 bits can count; check its dimensions"));
  }
  return absl::Uint128Low64(bytes);
}

absl::StatusOr<uint64_t> TensorByteSize(const TensorSpec& spec) {
  return TensorByteSize(spec.name, spec.dtype, spec.shape);
}

std::string ShapeString(DType dtype, absl::Span<const uint64_t> shape) {
  const bool is_cut = shape.size() > kMaxTensorRank;
  return absl::StrCat(DTypeName(dtype), "[", absl::StrJoin(shape.subspan(0, kMaxTensorRank), ", "),
                      is_cut ? ", ...]" : "]");
}

absl::Status ValidateTensorName(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("a tensor's name is empty; give it one");
  if (name.size() > kMaxTensorNameBytes) {
    return TensorError(name, absl::StrCat("the name is longer than ", kMaxTensorNameBytes, " bytes; shorten it"));
  }
  if (name == "__metadata__") {
    return TensorError(name, "the safetensors format reserves this name; rename the tensor");
  }
  if (name.find('\0') != absl::string_view::npos) return TensorError(name, "the name contains a NUL byte; remove it");
  if (!IsValidUtf8(name)) return TensorError(name, "the name is not valid UTF-8; rename the tensor");
  return absl::OkStatus();
}

absl::Status ValidateModelName(absl::string_view name) {
  const auto is_allowed = [](char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; };
  if (!name.empty() && name.size() <= kMaxModelNameBytes && absl::ascii_isalnum(name[0]) &&
      std::all_of(name.begin(), name.end(), is_allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("model name \"", Printable(name), "\" is not allowed; use 1 to ",
                                                 kMaxModelNameBytes,
                                                 " characters of A-Z a-z 0-9 . _ - with a letter or a digit first"));
}

absl::StatusOr<uint64_t> ValidateManifest(absl::Span<const TensorSpec> tensors) {
  constexpr uint64_t kMaxTotalBytes = std::numeric_limits<int64_t>::max();
  const bool names_ascend = NamesAscend(tensors);
  absl::flat_hash_set<absl::string_view> names;
  if (!names_ascend) names.reserve(tensors.size());
  uint64_t total_bytes = 0;
  for (const TensorSpec& spec : tensors) {
    if (absl::Status status = ValidateTensorName(spec.name); !status.ok()) return status;
    if (!names_ascend && !names.insert(spec.name).second) {
      return TensorError(spec.name, "the name occurs twice; names must be unique");
    }
    const absl::StatusOr<uint64_t> bytes = TensorByteSize(spec);
    if (!bytes.ok()) return bytes.status();
    if (*bytes > kMaxTotalBytes - total_bytes) {
      return TensorError(spec.name, absl::StrCat("with its ", *bytes, " bytes the tensors together pass ",
                                                 kMaxTotalBytes, " bytes, the largest size of a file"));
    }
    total_bytes += *bytes;
  }
  return total_bytes;
}

}  // namespace weightstream
