#include "kernels/cast.h"

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

template <typename From, typename To, To (*Convert)(From)>
void CastLoop(const char* source, char* destination, uint64_t elements) {
  for (uint64_t i = 0; i < elements; ++i) {
    From from;
    std::memcpy(&from, source + i * sizeof(From), sizeof(From));
    const To to = Convert(from);
    std::memcpy(destination + i * sizeof(To), &to, sizeof(To));
  }
}

}  // namespace

absl::StatusOr<FloatCast> FindFloatCast(DType from, DType to) {
  if (from == DType::kF32 && to == DType::kBF16) return FloatCast::kF32ToBf16;
  if (from == DType::kF32 && to == DType::kF16) return FloatCast::kF32ToF16;
  if (from == DType::kBF16 && to == DType::kF32) return FloatCast::kBf16ToF32;
  if (from == DType::kF16 && to == DType::kF32) return FloatCast::kF16ToF32;
  if (from == DType::kBF16 && to == DType::kF16) return FloatCast::kBf16ToF16;
  if (from == DType::kF16 && to == DType::kBF16) return FloatCast::kF16ToBf16;
  return absl::InvalidArgumentError(absl::StrCat("there is no cast from ", DTypeName(from), " to ", DTypeName(to),
                                                 "; only F32, BF16 and F16 are cast into one another"));
}

uint32_t CastSourceBytes(FloatCast cast) {
  return cast == FloatCast::kF32ToBf16 || cast == FloatCast::kF32ToF16 ? 4 : 2;
}

uint32_t CastDestinationBytes(FloatCast cast) {
  return cast == FloatCast::kBf16ToF32 || cast == FloatCast::kF16ToF32 ? 4 : 2;
}

void CastElements(FloatCast cast, const char* source, char* destination, uint64_t elements) {
  switch (cast) {
    case FloatCast::kF32ToBf16:
      return CastLoop<uint32_t, uint16_t, F32ToBf16Bits>(source, destination, elements);
    case FloatCast::kF32ToF16:
      return CastLoop<uint32_t, uint16_t, F32ToF16Bits>(source, destination, elements);
    case FloatCast::kBf16ToF32:
      return CastLoop<uint16_t, uint32_t, Bf16ToF32Bits>(source, destination, elements);
    case FloatCast::kF16ToF32:
      return CastLoop<uint16_t, uint32_t, F16ToF32Bits>(source, destination, elements);
    case FloatCast::kBf16ToF16:
      return CastLoop<uint16_t, uint16_t, Bf16ToF16Bits>(source, destination, elements);
    case FloatCast::kF16ToBf16:
      return CastLoop<uint16_t, uint16_t, F16ToBf16Bits>(source, destination, elements);
  }
}

}  // namespace weightstream
