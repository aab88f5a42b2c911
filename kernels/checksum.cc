#include "kernels/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "kernels/checksum_internal.h"
#include "kernels/non_temporal_copy.h"

namespace weightstream {
namespace {

// Of one call of the library. Blocks of 4 KiB are summed a fifth faster than longer runs where they come from memory
// (12.6 and 10.4 GB/s, Xeon with AVX-512), and a tenth slower where they come from the cache (78 and 86). Why was not
// looked into; a page has that size, and the library's widest form walks a run in several places at once.
constexpr size_t kSumBlockBytes = 4 << 10;

// crc32_iscsi works on the bare shift register: it inverts neither what it is given nor what it returns, as the
// standard checksum does. So runs chain through this form, and the two inversions happen once, outside.
uint32_t ExtendRegister(uint32_t shift_register, const char* bytes, size_t size) {
  while (size > 0) {
    const size_t step = std::min(size, kSumBlockBytes);
    // The library forgot a const: it only reads.
    auto* input = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes));
    shift_register = crc32_iscsi(input, static_cast<int>(step), shift_register);
    bytes += step;
    size -= step;
  }
  return shift_register;
}

// Concatenation, in short. A CRC is the remainder of the message, as a polynomial over GF(2), divided by the generator
// P. Appending n bytes multiplies the message by x^(8n) and adds the new bytes, and remainders follow suit:
//
//   crc(AB) = crc(A) * x^(8n) mod P  +  crc(B)          (+ is exclusive or; the inversions of A and B cancel out)
//
// x^(8n) is a product of the powers x^(8 * 2^k) for the bits k that are set in n, which a table holds for every k.

// P without its x^32, in the reflected order of CRC32C: bit 31 is the coefficient of x^0, bit 0 that of x^31.
constexpr uint32_t kGenerator = 0x82F63B78;
constexpr uint32_t kOne = 0x80000000;     // x^0
constexpr uint32_t kOneByte = kOne >> 8;  // x^8

constexpr uint32_t TimesX(uint32_t a) { return (a >> 1) ^ ((a & 1) != 0 ? kGenerator : 0); }

constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t power = kOne; power != 0; power >>= 1) {
    if ((a & power) != 0) product ^= b;
    b = TimesX(b);
  }
  return product;
}

constexpr std::array<uint32_t, 64> MakePowers() {
  std::array<uint32_t, 64> powers{};
  powers[0] = kOneByte;
  for (size_t k = 1; k < powers.size(); ++k) powers[k] = Multiply(powers[k - 1], powers[k - 1]);
  return powers;
}

// kPowers[k] is x^(8 * 2^k) mod P.
constexpr std::array<uint32_t, 64> kPowers = MakePowers();

}  // namespace

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes) {
  return ~ExtendRegister(~crc, bytes.data(), bytes.size());
}

uint32_t CopyAndExtendCrc32c(uint32_t crc, char* destination, absl::string_view bytes, Stores stores) {
  return internal::CopyAndExtendCrc32cByBlocks(crc, destination, bytes, stores, internal::kCopyBlockBytes);
}

namespace internal {

uint32_t CopyAndExtendCrc32cByBlocks(uint32_t crc, char* destination, absl::string_view bytes, Stores stores,
                                     size_t block_bytes) {
  uint32_t shift_register = ~crc;
  while (!bytes.empty()) {
    // After the first, blocks begin where lines of the destination do, so that all but the last are whole lines.
    const size_t past_line = reinterpret_cast<uintptr_t>(destination) % kCacheLineBytes;
    const absl::string_view block = bytes.substr(0, block_bytes - past_line);
    shift_register = ExtendRegister(shift_register, block.data(), block.size());
    if (stores == Stores::kNonTemporal) {
      NonTemporalCopy(destination, block);
    } else {
      std::memcpy(destination, block.data(), block.size());
    }
    destination += block.size();
    bytes.remove_prefix(block.size());
  }
  if (stores == Stores::kNonTemporal) NonTemporalFence();
  return ~shift_register;
}

}  // namespace internal

uint32_t ConcatCrc32c(uint32_t first_crc, uint32_t second_crc, uint64_t second_bytes) {
  uint32_t shift = kOne;
  for (size_t k = 0; second_bytes != 0; ++k, second_bytes >>= 1) {
    if ((second_bytes & 1) != 0) shift = Multiply(shift, kPowers[k]);
  }
  return Multiply(first_crc, shift) ^ second_crc;
}

}  // namespace weightstream
