// The GPU's way to a CRC32C, followed on the processor, gives the very checksum of checksum.h.
#include "kernels/digest.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/checksum.h"

namespace weightstream {
namespace {

std::string RandomText(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Bit by bit, from a register of zeros that nobody inverts.
uint32_t RemainderByDefinition(absl::string_view bytes) {
  uint32_t remainder = 0;
  for (const char byte : bytes) {
    remainder ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82F63B78 : 0);
  }
  return remainder;
}

TEST(DigestTest, LanesAndChecksumAndDefinitionAgreeForEverySmallSizeAndAlignment) {
  const std::string bytes = RandomText(3'000, 1);
  for (size_t start = 4; start < 9; ++start) {
    for (size_t size = 0; size < 2'900; size += size < 40 || (size > 1'010 && size < 1'040) ? 1 : 61) {
      const absl::string_view part = absl::string_view(bytes).substr(start, size);
      const uint32_t expected = RemainderByDefinition(part);
      ASSERT_EQ(SegmentRemainder(part), expected) << size << " bytes at " << start;
      ASSERT_EQ(SegmentRemainderByLanes(part), expected) << size << " bytes at " << start;
    }
  }
}

TEST(DigestTest, LanesAgreeForWholeSegments) {
  const std::string bytes = RandomText(kDigestSegmentBytes + 64, 2);
  for (const size_t start : {4, 5, 6, 7}) {
    for (const size_t shorter : {0, 1, 2, 3, 4, 1'023, 1'024, 1'025}) {
      const absl::string_view part = absl::string_view(bytes).substr(start, kDigestSegmentBytes - shorter);
      ASSERT_EQ(SegmentRemainderByLanes(part), SegmentRemainder(part)) << part.size() << " bytes at " << start;
    }
  }
}

// What lies before the first byte may be anything.
TEST(DigestTest, BytesBesideTheSegmentDoNotCount) {
  std::string bytes = RandomText(5'000, 3);
  const absl::string_view part = absl::string_view(bytes).substr(7, 4'001);
  const uint32_t before = SegmentRemainderByLanes(part);
  for (const size_t beside : {0, 4, 5, 6, 4'008, 4'009, 4'010, 4'011}) bytes[beside] ^= 0x5A;
  EXPECT_EQ(SegmentRemainderByLanes(part), before);
  bytes[7] ^= 1;
  EXPECT_NE(SegmentRemainderByLanes(part), before);
}

TEST(DigestTest, RemaindersMakeTheChecksumOfTheWhole) {
  const std::string bytes = RandomText(5 * kDigestSegmentBytes + 777, 4);
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{1}, kDigestSegmentBytes - 1, kDigestSegmentBytes, kDigestSegmentBytes + 1,
        3 * kDigestSegmentBytes, static_cast<uint64_t>(bytes.size() - 3)}) {
    for (const size_t start : {0, 3}) {
      const absl::string_view whole = absl::string_view(bytes).substr(start, size);
      std::vector<uint32_t> remainders;
      for (uint64_t at = 0; at < size; at += kDigestSegmentBytes) {
        remainders.push_back(SegmentRemainder(whole.substr(at, kDigestSegmentBytes)));
      }
      ASSERT_EQ(remainders.size(), DigestSegmentCount(size));
      EXPECT_EQ(Crc32cFromRemainders(remainders, size), ExtendCrc32c(0, whole)) << size;
    }
  }
}

}  // namespace
}  // namespace weightstream
