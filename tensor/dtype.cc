#include "tensor/dtype.h"

#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

struct DTypeTraits {
  DType dtype;
  absl::string_view name;
  int bits;
};

// In the order of the enum, so that a type is its own index.
constexpr DTypeTraits kTraits[] = {
    {DType::kBool, "BOOL", 8},
    {DType::kF4, "F4", 4},
    {DType::kF6E2M3, "F6_E2M3", 6},
    {DType::kF6E3M2, "F6_E3M2", 6},
    {DType::kU8, "U8", 8},
    {DType::kI8, "I8", 8},
    {DType::kF8E5M2, "F8_E5M2", 8},
    {DType::kF8E4M3, "F8_E4M3", 8},
    {DType::kF8E8M0, "F8_E8M0", 8},
    {DType::kF8E4M3FNUZ, "F8_E4M3FNUZ", 8},
    {DType::kF8E5M2FNUZ, "F8_E5M2FNUZ", 8},
    {DType::kI16, "I16", 16},
    {DType::kU16, "U16", 16},
    {DType::kF16, "F16", 16},
    {DType::kBF16, "BF16", 16},
    {DType::kI32, "I32", 32},
    {DType::kU32, "U32", 32},
    {DType::kF32, "F32", 32},
    {DType::kC64, "C64", 64},
    {DType::kF64, "F64", 64},
    {DType::kI64, "I64", 64},
    {DType::kU64, "U64", 64},
};

constexpr bool TraitsFollowTheEnum() {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (static_cast<int>(kTraits[i].dtype) != i) return false;
  }
  return true;
}
static_assert(std::size(kTraits) == kDTypeCount);
static_assert(TraitsFollowTheEnum());

const DTypeTraits& TraitsOf(DType dtype) { return kTraits[static_cast<int>(dtype)]; }

}  // namespace

absl::StatusOr<DType> ParseDType(absl::string_view name) {
  for (const DTypeTraits& traits : kTraits) {
    if (traits.name == name) return traits.dtype;
  }
  const auto append_name = [](std::string* out, const DTypeTraits& traits) { absl::StrAppend(out, traits.name); };
  return absl::InvalidArgumentError(absl::StrCat("unknown dtype \"", Printable(name), "\"; the known ones are ",
                                                 absl::StrJoin(kTraits, " ", append_name)));
}

absl::string_view DTypeName(DType dtype) { return TraitsOf(dtype).name; }

int DTypeBits(DType dtype) { return TraitsOf(dtype).bits; }

int DTypeAlignment(DType dtype) {
  const int bits = DTypeBits(dtype);
  return bits < 8 ? 1 : bits / 8;
}

}  // namespace weightstream
