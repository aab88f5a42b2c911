#include "kernels/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "kernels/checksum_internal.h"
#include "kernels/crc32c_polynomials.h"
#include "kernels/folded_checksum.h"
#include "kernels/non_temporal_copy.h"

namespace weightstream {
namespace {

// Of one call of the library. Where there is nothing faster, blocks of 4 KiB are summed a fifth faster than longer runs
// where they come from memory (12.6 and 10.4 GB/s, Xeon with AVX-512), and a tenth slower where they come from the
// cache (78 and 86).
constexpr size_t kSumBlockBytes = 4 << 10;

// crc32_iscsi works on the bare shift register: it inverts neither what it is given nor what it returns, as the
// standard checksum does. So runs chain through this form, and the two inversions happen once, outside.
void SumByBlocks(uint32_t& shift_register, absl::string_view bytes) {
  while (!bytes.empty()) {
    const absl::string_view block = bytes.substr(0, kSumBlockBytes);
    // The library forgot a const: it only reads.
    auto* input = reinterpret_cast<unsigned char*>(const_cast<char*>(block.data()));
    shift_register = crc32_iscsi(input, static_cast<int>(block.size()), shift_register);
    bytes.remove_prefix(block.size());
  }
}

void Sum(uint32_t& shift_register, absl::string_view bytes) {
  bytes.remove_prefix(FoldChecksum(shift_register, bytes));
  SumByBlocks(shift_register, bytes);
}

// `sum` is Sum or SumByBlocks.
void CopyByBlocks(uint32_t& shift_register, char* destination, absl::string_view bytes, Stores stores,
                  size_t block_bytes, void (*sum)(uint32_t&, absl::string_view)) {
  while (!bytes.empty()) {
    // After the first, blocks begin where lines of the destination do, so that all but the last are whole lines.
    const absl::string_view block = bytes.substr(0, block_bytes - PastLine(destination));
    sum(shift_register, block);
    if (stores == Stores::kNonTemporal) {
      NonTemporalCopy(destination, block);
    } else {
      std::memcpy(destination, block.data(), block.size());
    }
    destination += block.size();
    bytes.remove_prefix(block.size());
  }
}

// Concatenation, in short. Appending n bytes multiplies the message by x^(8n) and adds the new bytes, and remainders
// (crc32c_polynomials.h) follow suit:
//
//   crc(AB) = crc(A) * x^(8n) mod P  +  crc(B)          (+ is exclusive or; the inversions of A and B cancel out)
//
// x^(8n) is a product of the powers x^(8 * 2^k) for the bits k that are set in n, which a table holds for every k.

constexpr std::array<uint32_t, 64> MakePowers() {
  std::array<uint32_t, 64> powers{};
  powers[0] = crc32c::PowerOfX(8);
  for (size_t k = 1; k < powers.size(); ++k) powers[k] = crc32c::Multiply(powers[k - 1], powers[k - 1]);
  return powers;
}

// kPowers[k] is x^(8 * 2^k) mod P.
constexpr std::array<uint32_t, 64> kPowers = MakePowers();

}  // namespace

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes) {
  uint32_t shift_register = ~crc;
  Sum(shift_register, bytes);
  return ~shift_register;
}

uint32_t CopyAndExtendCrc32c(uint32_t crc, char* destination, absl::string_view bytes, Stores stores) {
  uint32_t shift_register = ~crc;
  if (stores == Stores::kNonTemporal) {
    const size_t head = std::min(BytesToLine(destination), bytes.size());
    CopyByBlocks(shift_register, destination, bytes.substr(0, head), stores, internal::kCopyBlockBytes, Sum);
    const size_t folded = FoldChecksumAndCopy(shift_register, destination + head, bytes.substr(head));
    destination += head + folded;
    bytes.remove_prefix(head + folded);
  }
  CopyByBlocks(shift_register, destination, bytes, stores, internal::kCopyBlockBytes, Sum);
  if (stores == Stores::kNonTemporal) NonTemporalFence();
  return ~shift_register;
}

uint32_t internal::ExtendCrc32cByBlocks(uint32_t crc, absl::string_view bytes) {
  uint32_t shift_register = ~crc;
  SumByBlocks(shift_register, bytes);
  return ~shift_register;
}

uint32_t internal::CopyAndExtendCrc32cByBlocks(uint32_t crc, char* destination, absl::string_view bytes, Stores stores,
                                               size_t block_bytes) {
  uint32_t shift_register = ~crc;
  CopyByBlocks(shift_register, destination, bytes, stores, block_bytes, SumByBlocks);
  if (stores == Stores::kNonTemporal) NonTemporalFence();
  return ~shift_register;
}

uint32_t ConcatCrc32c(uint32_t first_crc, uint32_t second_crc, uint64_t second_bytes) {
  uint32_t shift = crc32c::kOne;
  for (size_t k = 0; second_bytes != 0; ++k, second_bytes >>= 1) {
    if ((second_bytes & 1) != 0) shift = crc32c::Multiply(shift, kPowers[k]);
  }
  return crc32c::Multiply(first_crc, shift) ^ second_crc;
}

}  // namespace weightstream
