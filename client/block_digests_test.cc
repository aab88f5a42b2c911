#include "client/block_digests.h"

#include <gtest/gtest.h>

#include <string>

#include "client/held_form.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"

namespace weightstream {
namespace {

struct TestTensorBytes {
  TensorSpec spec;
  std::string data;
};

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

// ---- What targets hold of a tensor
// -----------------------------------------------------------------------------------

constexpr uint64_t kRows = 3000;
constexpr uint64_t kColumns = 50;

// As F32, so that a piece of it is several.
TestTensorBytes Pattern() {
  TestTensorBytes tensor{{"t", DType::kF32, {kRows, kColumns}}, std::string(kRows * kColumns * 4, '\0')};
  for (size_t i = 0; i < tensor.data.size(); ++i) tensor.data[i] = static_cast<char>(i * 2654435761 >> 24);
  return tensor;
}

v1::TensorDigest HeldDigest(const std::string& held, const std::string& dtype, absl::optional<TensorSlice> slice,
                            uint64_t block_bytes = 1000) {
  v1::TensorDigest digest = DigestOf(held, block_bytes);
  digest.set_held_dtype(dtype);
  if (slice.has_value()) {
    digest.mutable_slice()->set_dimension(slice->dimension);
    digest.mutable_slice()->set_begin(slice->begin);
    digest.mutable_slice()->set_end(slice->end);
  }
  return digest;
}

ByteRanges DifferingHeld(const TestTensorBytes& ours, const v1::TensorDigest& digest) {
  const absl::StatusOr<HeldForm> form = HeldForm::Of(ours.spec, digest);
  EXPECT_TRUE(form.ok()) << form.status();
  uint64_t done = 0;
  const auto ranges = DifferingHeldRanges(*form, ours.data, digest, [&](uint64_t bytes) { done += bytes; });
  EXPECT_TRUE(ranges.ok()) << ranges.status();
  EXPECT_EQ(done, ours.data.size());
  return *ranges;
}

// Columns [20, 33), element by element.
std::string Columns(const std::string& data, uint64_t begin, uint64_t end) {
  std::string part;
  for (uint64_t row = 0; row < kRows; ++row) part += data.substr((row * kColumns + begin) * 4, (end - begin) * 4);
  return part;
}

std::string AsBf16(const std::string& data) {
  std::string cast(data.size() / 2, '\0');
  CastElements(FloatCast::kF32ToBf16, data.data(), cast.data(), data.size() / 4);
  return cast;
}

TEST(DifferingHeldRangesTest, SlicesAndCastsAreComparedAsTheyAreHeld) {
  const TestTensorBytes tensor = Pattern();
  const TensorSlice columns{1, 20, 33};
  const std::string part = Columns(tensor.data, 20, 33);
  EXPECT_TRUE(DifferingHeld(tensor, HeldDigest(part, "", columns)).empty());
  EXPECT_TRUE(DifferingHeld(tensor, HeldDigest(AsBf16(tensor.data), "BF16", absl::nullopt)).empty());
  EXPECT_TRUE(DifferingHeld(tensor, HeldDigest(AsBf16(part), "BF16", columns)).empty());
  EXPECT_TRUE(DifferingHeld(tensor, HeldDigest(AsBf16(part), "BF16", columns, 1 << 20)).empty());
}

TEST(DifferingHeldRangesTest, OneBitIsFoundWhereItIsHeld) {
  const TestTensorBytes tensor = Pattern();
  std::string held = AsBf16(Columns(tensor.data, 20, 33));
  held[5'500] ^= 1;
  held.back() ^= 1;
  EXPECT_EQ(DifferingHeld(tensor, HeldDigest(held, "BF16", TensorSlice{1, 20, 33})),
            (ByteRanges{{5'000, 6'000}, {held.size() - 1'000, held.size()}}));
}

TEST(DifferingHeldRangesTest, AFormThatCannotBeIsRefused) {
  const TestTensorBytes tensor = Pattern();
  for (const v1::TensorDigest& bad :
       {HeldDigest("", "FLOAT", absl::nullopt), HeldDigest("", "I32", absl::nullopt),
        HeldDigest("", "", TensorSlice{2, 0, 1}), HeldDigest("", "", TensorSlice{1, 3, 51})}) {
    EXPECT_TRUE(absl::IsInternal(HeldForm::Of(tensor.spec, bad).status())) << bad.ShortDebugString();
  }
  const v1::TensorDigest half = HeldDigest(AsBf16(tensor.data), "", absl::nullopt);
  EXPECT_TRUE(absl::IsInternal(
      DifferingHeldRanges(*HeldForm::Of(tensor.spec, half), tensor.data, half, [](uint64_t) {}).status()));
}

TEST(DescribeRangesTest, NamesTheFirstFew) {
  EXPECT_EQ(DescribeRanges({{0, 16}}), "bytes differ in [0, 16)");
  EXPECT_EQ(DescribeRanges({{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}}),
            "bytes differ in [0, 1), [2, 3), [4, 5), [6, 7) and 2 more ranges");
}

}  // namespace
}  // namespace weightstream
