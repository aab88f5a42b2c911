#include "client/block_digests.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/checksum.h"

namespace weightstream {
namespace {

v1::TensorDigest DigestOf(const std::string& data, uint64_t block_bytes) {
  v1::TensorDigest digest;
  digest.mutable_spec()->set_name("t");
  digest.set_block_bytes(block_bytes);
  for (uint64_t begin = 0; begin < data.size(); begin += block_bytes) {
    digest.add_crc32c(ExtendCrc32c(0, absl::string_view(data).substr(begin, block_bytes)));
  }
  return digest;
}

ByteRanges Differing(const std::string& ours, const std::string& theirs, uint64_t block_bytes) {
  uint64_t done = 0;
  const auto ranges = DifferingRanges(ours, DigestOf(theirs, block_bytes), [&](uint64_t bytes) { done += bytes; });
  EXPECT_TRUE(ranges.ok()) << ranges.status();
  EXPECT_EQ(done, ours.size());
  return *ranges;
}

TEST(DifferingRangesTest, EqualBytesHaveNone) {
  EXPECT_TRUE(Differing("0123456789", "0123456789", 4).empty());
  EXPECT_TRUE(Differing("", "", 4).empty());
  EXPECT_TRUE(Differing("01234567", "01234567", 4).empty());
}

TEST(DifferingRangesTest, JoinsNeighboursAndEndsWithTheTensor) {
  EXPECT_EQ(Differing("0123456789", "0123x5678x", 4), (ByteRanges{{4, 10}}));
  EXPECT_EQ(Differing("0123456789", "x12345678x", 4), (ByteRanges{{0, 4}, {8, 10}}));
}

TEST(DifferingRangesTest, RefusesADigestThatDoesNotCoverTheTensor) {
  const auto ignore = [](uint64_t) {};
  EXPECT_TRUE(absl::IsInternal(DifferingRanges("0123456789", DigestOf("01234567", 4), ignore).status()));
  v1::TensorDigest digest = DigestOf("0123456789", 4);
  digest.set_block_bytes(0);
  EXPECT_TRUE(absl::IsInternal(DifferingRanges("0123456789", digest, ignore).status()));
}

TEST(DescribeRangesTest, NamesTheFirstFew) {
  EXPECT_EQ(DescribeRanges({{0, 16}}), "bytes differ in [0, 16)");
  EXPECT_EQ(DescribeRanges({{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}}),
            "bytes differ in [0, 1), [2, 3), [4, 5), [6, 7) and 2 more ranges");
}

}  // namespace
}  // namespace weightstream
