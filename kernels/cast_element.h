// One element cast between F32, BF16 and F16, on its bits: integer arithmetic alone, and the same text for the
// processor and for the GPU, so that both give the same bits whatever their floating-point units do.
//
// The rules. Widening is exact. Narrowing rounds to the nearest value, and to the even one of two that are equally
// near; beyond the largest finite value by half a step or more it gives infinity; subnormal results are right.
// Infinities and signs are kept. A NaN stays a NaN: widening keeps its payload, at the top; narrowing keeps the top of
// its payload, and sets the quiet bit only where that top is all zero (it would read as infinity). So each 16-bit value
// comes back as it was from F32. Between BF16 and F16 a value goes by way of F32, and is rounded once.
//
// C++17 and nothing but the standard library: nvcc reads it too. Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_CAST_ELEMENT_H_
#define WEIGHTSTREAM_KERNELS_CAST_ELEMENT_H_

#include <cstdint>

#ifdef __CUDACC__
#define WEIGHTSTREAM_HOST_DEVICE __host__ __device__
#else
#define WEIGHTSTREAM_HOST_DEVICE
#endif

namespace weightstream {

// Source and destination.
enum class FloatCast : uint8_t { kF32ToBf16, kF32ToF16, kBf16ToF32, kF16ToF32, kBf16ToF16, kF16ToBf16 };

WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t Bf16ToF32Bits(uint16_t bits) { return static_cast<uint32_t>(bits) << 16; }

WEIGHTSTREAM_HOST_DEVICE constexpr uint16_t F32ToBf16Bits(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {
    const uint32_t top = bits >> 16;
    return static_cast<uint16_t>((top & 0x7F) == 0 ? top | 0x40 : top);
  }
  // Half a step less one, and one more where the kept part is odd: halves go to the even neighbour. A carry out of the
  // mantissa is a step of the exponent, up to infinity.
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t F16ToF32Bits(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 0x1F;
  uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0x1F) return sign | 0x7F800000 | mantissa << 13;
  if (exponent != 0) return sign | (exponent + 127 - 15) << 23 | mantissa << 13;
  if (mantissa == 0) return sign;
  // Subnormal there, normal here: mantissa * 2^-24 with its first one moved to where F32 leaves it out.
  uint32_t shift = 0;
  while ((mantissa & 0x400) == 0) {
    mantissa <<= 1;
    ++shift;
  }
  return sign | (127 - 14 - shift) << 23 | (mantissa & 0x3FF) << 13;
}

WEIGHTSTREAM_HOST_DEVICE constexpr uint16_t F32ToF16Bits(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {
    const uint32_t payload = magnitude >> 13 & 0x3FF;
    return static_cast<uint16_t>(sign | 0x7C00 | (payload == 0 ? 0x200 : payload));
  }
  // 65520, half a step above the largest finite value, and all above.
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);
  if (magnitude >= 0x38800000) {
    // Normal in both: the exponent's bias changes, and 13 bits are rounded off as above.
    const uint32_t rebiased = magnitude - (static_cast<uint32_t>(127 - 15) << 23);
    return static_cast<uint16_t>(sign | (rebiased + 0xFFF + (rebiased >> 13 & 1)) >> 13);
  }
  // Up to half of the smallest subnormal, 2^-25: zero, which is the even neighbour.
  if (magnitude <= 0x33000000) return static_cast<uint16_t>(sign);
  // A multiple of 2^-24, as an integer. The exponent lies between 102 and 112.
  const uint32_t exponent = magnitude >> 23;
  const uint32_t shift = 126 - exponent;
  const uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
  const uint32_t kept = mantissa >> shift;
  const uint32_t half_less_one = (1u << (shift - 1)) - 1;
  return static_cast<uint16_t>(sign | (mantissa + half_less_one + (kept & 1)) >> shift);
}

WEIGHTSTREAM_HOST_DEVICE constexpr uint16_t Bf16ToF16Bits(uint16_t bits) { return F32ToF16Bits(Bf16ToF32Bits(bits)); }

WEIGHTSTREAM_HOST_DEVICE constexpr uint16_t F16ToBf16Bits(uint16_t bits) { return F32ToBf16Bits(F16ToF32Bits(bits)); }

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CAST_ELEMENT_H_
