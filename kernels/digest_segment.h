// How a GPU digests memory: the polynomial arithmetic of CRC32C that the kernel and its CPU twin share.
//
// Memory is cut into segments of 64 KiB, and each segment's bits, as a polynomial over GF(2), are divided by CRC32C's
// generator P; the remainders are then put together as the checksum of the whole (digest.h). Within a segment
// kDigestLanes lanes take turns word by word, so that neighbouring threads read neighbouring words: lane l has the
// words l, l + kDigestLanes, ... of a row, and by Horner's rule, with one constant for all,
//
//   sum = sum * x^(32 * kDigestLanes) mod P  +  word          (+ is exclusive or)
//
// At the end each lane's sum is multiplied by the power of x that its place stands for, and all are added. The product
// with the constant is eight look-ups, one for each four bits of the sum: 128 entries, of which the kernel keeps a copy
// for every bank of shared memory, so that no look-up waits for another. (One table of 256 entries for each byte would
// halve the look-ups, but 32 copies of it fill a whole multiprocessor's shared memory.) CRC32C, and not a faster
// digest, since it is what chunks carry and what DigestModel answers with (docs/decisions/0003): device and source
// agree without a second pass over either.
//
// Bits are in CRC32C's order (crc32c_polynomials.h). C++17 and nothing but the standard library: nvcc reads it too.
// Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_DIGEST_SEGMENT_H_
#define WEIGHTSTREAM_KERNELS_DIGEST_SEGMENT_H_

#include <cstdint>

#include "kernels/cast_element.h"
#include "kernels/crc32c_polynomials.h"

namespace weightstream {

inline constexpr uint64_t kDigestSegmentBytes = 64 << 10;
inline constexpr uint32_t kDigestLanes = 256;
// The sum is looked up four bits at a time.
inline constexpr uint32_t kDigestTableEntries = 8 * 16;

// How many segments `bytes` bytes are cut into.
WEIGHTSTREAM_HOST_DEVICE constexpr uint64_t DigestSegmentCount(uint64_t bytes) {
  return bytes / kDigestSegmentBytes + (bytes % kDigestSegmentBytes != 0 ? 1 : 0);
}

// x^(32 * words) mod P.
WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t WordPower(uint64_t words) {
  uint32_t square = crc32c::PowerOfX(32);
  uint32_t power = crc32c::kOne;
  for (; words != 0; words >>= 1) {
    if ((words & 1) != 0) power = crc32c::Multiply(power, square);
    square = crc32c::Multiply(square, square);
  }
  return power;
}

// Entry 16 * k + v is (v << 4 * k) * x^(32 * kDigestLanes) mod P.
struct DigestTable {
  uint32_t entries[kDigestTableEntries];
};

constexpr DigestTable MakeDigestTable() {
  DigestTable table{};
  const uint32_t row = WordPower(kDigestLanes);
  for (uint32_t k = 0; k < 8; ++k) {
    for (uint32_t value = 0; value < 16; ++value) table.entries[16 * k + value] = crc32c::Multiply(value << 4 * k, row);
  }
  return table;
}

// The remainder after one more byte.
WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t AppendByte(uint32_t remainder, uint8_t byte) {
  remainder ^= byte;
  for (int bit = 0; bit < 8; ++bit) remainder = crc32c::TimesX(remainder);
  return remainder;
}

// How a segment is read as whole words at multiples of four bytes: bytes before it in the first word are made zero, and
// zeros in front change no remainder; up to three bytes behind the last whole word are appended one by one. A segment
// too short to reach a whole word has none: all of its bytes are appended.
struct DigestSegmentShape {
  // Bytes of the first word that lie before the segment.
  uint32_t lead = 0;
  uint32_t words = 0;
  // The words of the first row that are missing, so that the last row is full.
  uint32_t absent = 0;
  uint32_t rows = 0;
  uint32_t tail = 0;
};

WEIGHTSTREAM_HOST_DEVICE constexpr DigestSegmentShape ShapeOfSegment(uint64_t address, uint32_t bytes) {
  DigestSegmentShape shape;
  shape.lead = static_cast<uint32_t>(address % 4);
  shape.words = (shape.lead + bytes) / 4;
  if (shape.words == 0) {
    shape.lead = 0;
    shape.tail = bytes;
    return shape;
  }
  shape.tail = (shape.lead + bytes) % 4;
  shape.rows = (shape.words + kDigestLanes - 1) / kDigestLanes;
  shape.absent = shape.rows * kDigestLanes - shape.words;
  return shape;
}

// A word of a segment with the bytes before the segment made zero. Little-endian, as GPUs and our hosts are.
WEIGHTSTREAM_HOST_DEVICE constexpr uint32_t WithoutLead(uint32_t word, uint32_t lead) {
  return lead == 0 ? word : word >> 8 * lead << 8 * lead;
}

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_DIGEST_SEGMENT_H_
