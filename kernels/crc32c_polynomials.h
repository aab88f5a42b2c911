// The polynomials over GF(2) behind CRC32C: remainders by its generator P, in the order of bits that it uses.
//
// A CRC is the remainder of the message, as a polynomial, divided by P. The order is reflected: bit 31 of a remainder
// is the coefficient of x^0, bit 0 that of x^31. C++17 and nothing but the standard library: nvcc reads it too. Pure,
// any thread.
#ifndef WEIGHTSTREAM_KERNELS_CRC32C_POLYNOMIALS_H_
#define WEIGHTSTREAM_KERNELS_CRC32C_POLYNOMIALS_H_

#include <cstdint>

#include "kernels/cast_element.h"

namespace weightstream::crc32c {

inline constexpr uint32_t kGenerator = 0x82F63B78;  // P without its x^32
inline constexpr uint32_t kOne = 0x80000000;        // x^0

WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t TimesX(uint32_t a) { return (a >> 1) ^ ((a & 1) != 0 ? kGenerator : 0); }

WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t power = kOne; power != 0; power >>= 1) {
    if ((a & power) != 0) product ^= b;
    b = TimesX(b);
  }
  return product;
}

// x^n mod P, in n steps.
WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t PowerOfX(int n) {
  uint32_t power = kOne;
  for (int i = 0; i < n; ++i) power = TimesX(power);
  return power;
}

}  // namespace weightstream::crc32c

#endif  // WEIGHTSTREAM_KERNELS_CRC32C_POLYNOMIALS_H_
