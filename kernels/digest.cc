#include "kernels/digest.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "kernels/device.h"

namespace weightstream {
namespace {

static_assert(kDigestBlockMultiple == kDigestSegmentBytes);

constexpr DigestTable kTable = MakeDigestTable();

// The checksum of so many zero bytes: what inverting before and after adds to a bare remainder of as many bytes. The
// inverted start, moved past them, and inverted again.
uint32_t InversionPart(uint64_t bytes) { return ~ConcatCrc32c(~uint32_t{0}, 0, bytes); }

uint32_t TimesRow(uint32_t sum) {
  uint32_t product = 0;
  for (uint32_t k = 0; k < 8; ++k) product ^= kTable.entries[16 * k + (sum >> 4 * k & 15)];
  return product;
}

}  // namespace

absl::Status CheckDigestBlock(uint64_t block_bytes) {
  if (block_bytes != 0 && block_bytes % kDigestSegmentBytes == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("digests of blocks of ", block_bytes, " bytes, which are no multiple of ",
                                          kDigestSegmentBytes, "; this is a defect of the program"));
}

uint32_t SegmentRemainder(absl::string_view segment) {
  return ExtendCrc32c(0, segment) ^ InversionPart(segment.size());
}

uint32_t SegmentRemainderByLanes(absl::string_view segment) {
  const DigestSegmentShape shape =
      ShapeOfSegment(reinterpret_cast<uintptr_t>(segment.data()), static_cast<uint32_t>(segment.size()));
  const char* const words = segment.data() - shape.lead;
  uint32_t remainder = 0;
  for (uint32_t lane = 0; lane < kDigestLanes; ++lane) {
    uint32_t sum = 0;
    for (uint32_t row = 0; row < shape.rows; ++row) {
      const uint32_t place = row * kDigestLanes + lane;
      sum = TimesRow(sum);
      if (place < shape.absent) continue;
      uint32_t word;
      std::memcpy(&word, words + uint64_t{4} * (place - shape.absent), sizeof(word));
      sum ^= place == shape.absent ? WithoutLead(word, shape.lead) : word;
    }
    remainder ^= crc32c::Multiply(sum, WordPower(kDigestLanes - lane));
  }
  for (const char byte : segment.substr(segment.size() - shape.tail)) {
    remainder = AppendByte(remainder, static_cast<uint8_t>(byte));
  }
  return remainder;
}

uint32_t Crc32cFromRemainders(absl::Span<const uint32_t> remainders, uint64_t bytes) {
  uint32_t whole = 0;
  uint64_t left = bytes;
  for (const uint32_t remainder : remainders) {
    const uint64_t segment = std::min(left, kDigestSegmentBytes);
    // Bare remainders go together as checksums do: the inversions of those cancel out.
    whole = ConcatCrc32c(whole, remainder, segment);
    left -= segment;
  }
  return whole ^ InversionPart(bytes);
}

}  // namespace weightstream
