#include "kernels/checksum.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <random>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/checksum_internal.h"

namespace weightstream {
namespace {

absl::string_view View(const std::string& bytes) { return absl::string_view(bytes.data(), bytes.size()); }

std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// By the definition, bit by bit.
uint32_t SlowCrc32c(absl::string_view bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78 : 0);
  }
  return ~crc;
}

// The check value of the usual catalogues, and the examples of RFC 3720, B.4.
TEST(ChecksumTest, AgreesWithPublishedValues) {
  EXPECT_EQ(ExtendCrc32c(0, "123456789"), 0xE3069283u);
  EXPECT_EQ(ExtendCrc32c(0, ""), 0u);
  EXPECT_EQ(ExtendCrc32c(0, View(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(ExtendCrc32c(0, View(std::string(32, '\xff'))), 0x62A8AB43u);
  std::string ascending;
  for (char byte = 0; byte < 32; ++byte) ascending.push_back(byte);
  EXPECT_EQ(ExtendCrc32c(0, View(ascending)), 0x46DD794Eu);
}

TEST(ChecksumTest, AgreesWithTheDefinitionForEverySmallSizeAndAlignment) {
  const std::string bytes = RandomBytes(1'100, 1);
  for (size_t start = 0; start < 9; ++start) {
    for (size_t size = 0; size < 1'090; size += size < 300 ? 1 : 37) {
      const absl::string_view part = View(bytes).substr(start, size);
      ASSERT_EQ(ExtendCrc32c(0, part), SlowCrc32c(part)) << size << " bytes at " << start;
    }
  }
}

TEST(ChecksumTest, ExtendsInPieces) {
  const std::string bytes = RandomBytes(10'000, 2);
  const uint32_t whole = ExtendCrc32c(0, View(bytes));
  for (const size_t piece : {1, 7, 64, 4'096, 9'999}) {
    uint32_t crc = 0;
    for (size_t at = 0; at < bytes.size(); at += piece) crc = ExtendCrc32c(crc, View(bytes).substr(at, piece));
    EXPECT_EQ(crc, whole) << piece;
  }
}

// Whichever of them this processor takes.
TEST(ChecksumTest, BothFormsAgreeForEverySizeAroundTheirSteps) {
  const std::string bytes = RandomBytes(40'000, 6);
  for (const size_t middle : {0, 64, 256, 512, 4'096, 8'192, 32'768}) {
    for (size_t size = middle; size < middle + 300; ++size) {
      const absl::string_view part = View(bytes).substr(size % 67, size);
      ASSERT_EQ(ExtendCrc32c(7, part), internal::ExtendCrc32cByBlocks(7, part)) << size;
    }
  }
}

class FusedCopyTest : public testing::TestWithParam<Stores> {};

TEST_P(FusedCopyTest, CopiesAndSums) {
  constexpr size_t kBlock = internal::kCopyBlockBytes;
  const std::string bytes = RandomBytes(3 * kBlock + 20, 3);
  for (const size_t size : {size_t{0}, size_t{1}, kBlock - 1, kBlock, kBlock + 1, 3 * kBlock + 5}) {
    for (const size_t start : {0, 1, 13}) {
      const absl::string_view source = View(bytes).substr(start, size);
      std::string destination(size + 2, '#');
      EXPECT_EQ(CopyAndExtendCrc32c(5, destination.data() + 1, source, GetParam()), ExtendCrc32c(5, source)) << size;
      EXPECT_TRUE(destination == "#" + bytes.substr(start, size) + "#") << size;
    }
  }
}

TEST_P(FusedCopyTest, CopiesAndSumsToEveryPlaceInALine) {
  constexpr size_t kLine = 64;
  const std::string bytes = RandomBytes(5'000, 7);
  for (size_t place = 0; place < kLine; ++place) {
    for (const size_t size : {1, 63, 64, 65, 255, 256, 257, 319, 320, 511, 512, 575, 640, 1'000, 4'500}) {
      const absl::string_view source = View(bytes).substr(size % 71, size);
      const std::string expected = std::string(place, '#') + std::string(source) + std::string(2 * kLine, '#');
      std::string buffer(expected.size() + kLine, '#');
      char* const line = buffer.data() + (kLine - reinterpret_cast<uintptr_t>(buffer.data()) % kLine) % kLine;
      ASSERT_EQ(CopyAndExtendCrc32c(9, line + place, source, GetParam()), internal::ExtendCrc32cByBlocks(9, source))
          << size << " bytes to " << place;
      ASSERT_TRUE(absl::string_view(line, expected.size()) == View(expected)) << size << " bytes to " << place;
    }
  }
}

TEST_P(FusedCopyTest, ByBlocksAsWell) {
  const std::string bytes = RandomBytes(20'000, 8);
  std::string destination(bytes.size() + 5, '#');
  EXPECT_EQ(internal::CopyAndExtendCrc32cByBlocks(3, destination.data() + 5, View(bytes), GetParam(),
                                                  internal::kCopyBlockBytes),
            internal::ExtendCrc32cByBlocks(3, View(bytes)));
  EXPECT_TRUE(destination == "#####" + bytes);
}

TEST_P(FusedCopyTest, ChainsAcrossSlices) {
  const std::string bytes = RandomBytes(100'000, 4);
  std::string destination(bytes.size(), '\0');
  uint32_t crc = 0;
  for (size_t at = 0, slice = 1; at < bytes.size(); at += slice, slice = slice * 3 % 17'011 + 1) {
    crc = CopyAndExtendCrc32c(crc, destination.data() + at, View(bytes).substr(at, slice), GetParam());
    if (at + slice >= bytes.size()) break;
  }
  EXPECT_EQ(crc, ExtendCrc32c(0, View(bytes)));
  EXPECT_TRUE(destination == bytes);
}

// A thread that learns of the copy from a plain release store sees all of it. Without the fence after non-temporal
// stores most runs find rounds, up to a thousand, that see old bytes. Bounded by time too: on a busy machine a round
// may take long.
TEST_P(FusedCopyTest, IsSeenByWhoeverIsToldOfIt) {
  constexpr int kMaxRounds = 400'000;
  constexpr int kStop = -1;
  constexpr size_t kLine = 64;
  // Enough for one pass of wide stores as well as for blocks.
  constexpr size_t kPlace = 8 * kLine;
  const absl::Time deadline = absl::Now() + absl::Seconds(3);
  alignas(kLine) char place[kPlace] = {};
  std::atomic<int> copied{0};
  std::atomic<int> looked{0};
  std::atomic<int> stale{0};
  std::thread reader([&] {
    for (int round = 1;; ++round) {
      int told;
      while ((told = copied.load(std::memory_order_acquire)) != round && told != kStop) {
      }
      if (told == kStop) return;
      const char expected = static_cast<char>(round);
      if (std::any_of(std::begin(place), std::end(place), [=](char byte) { return byte != expected; })) {
        stale.fetch_add(1);
      }
      looked.store(round, std::memory_order_release);
    }
  });
  std::string source(kPlace, ' ');
  for (int round = 1; round <= kMaxRounds && absl::Now() < deadline; ++round) {
    source.assign(kPlace, static_cast<char>(round));
    CopyAndExtendCrc32c(0, place, View(source), GetParam());
    copied.store(round, std::memory_order_release);
    while (looked.load(std::memory_order_acquire) != round) {
    }
  }
  copied.store(kStop);
  reader.join();
  EXPECT_EQ(stale.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(, FusedCopyTest, testing::Values(Stores::kCached, Stores::kNonTemporal),
                         [](const auto& info) { return info.param == Stores::kCached ? "Cached" : "NonTemporal"; });

TEST(ChecksumTest, ConcatEqualsTheChecksumOfTheWhole) {
  const std::string bytes = RandomBytes(70'000, 5);
  for (const size_t first : {0, 1, 100, 4'096, 65'537, 70'000}) {
    const uint32_t first_crc = ExtendCrc32c(0, View(bytes).substr(0, first));
    const uint32_t second_crc = ExtendCrc32c(0, View(bytes).substr(first));
    EXPECT_EQ(ConcatCrc32c(first_crc, second_crc, bytes.size() - first), ExtendCrc32c(0, View(bytes))) << first;
  }
}

// No test can sum 2^63 bytes, but concatenation is associative, and zeros can be doubled.
TEST(ChecksumTest, ConcatHoldsForLengthsBeyondMemory) {
  const uint32_t head = ExtendCrc32c(0, "head");
  uint32_t zeros = ExtendCrc32c(0, View(std::string(1, '\0')));
  uint32_t expected = ConcatCrc32c(head, zeros, 1);
  uint64_t length = 1;
  for (int doubling = 1; doubling < 63; ++doubling) {
    // head + zeros(2n) is (head + zeros(n)) + zeros(n).
    expected = ConcatCrc32c(expected, zeros, length);
    zeros = ConcatCrc32c(zeros, zeros, length);
    length *= 2;
    ASSERT_EQ(ConcatCrc32c(head, zeros, length), expected) << length;
  }
}

// The library under it takes an int: a size beyond that is split.
TEST(ChecksumTest, SumsMoreThanTwoGigabytes) {
  constexpr size_t kBytes = (size_t{2} << 30) + 12'345;
  // Reading untouched memory takes none: it is one page of zeros all over.
  void* zeros = mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  const absl::string_view bytes(static_cast<const char*>(zeros), kBytes);
  const uint32_t piece = ExtendCrc32c(0, bytes.substr(0, 1 << 20));
  // Not from 0, or a stretch of zeros that was left out might not show.
  uint32_t expected = ExtendCrc32c(0, "head");
  for (size_t i = 0; i < 2'048; ++i) expected = ConcatCrc32c(expected, piece, 1 << 20);
  expected = ExtendCrc32c(expected, bytes.substr(0, 12'345));
  EXPECT_EQ(ExtendCrc32c(ExtendCrc32c(0, "head"), bytes), expected);
  munmap(zeros, kBytes);
}

}  // namespace
}  // namespace weightstream
