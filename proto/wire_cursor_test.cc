#include "proto/wire_cursor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weightstream {
namespace {

using ::testing::ElementsAre;

std::vector<grpc::Slice> Slices(const std::vector<std::string>& parts) {
  return std::vector<grpc::Slice>(parts.begin(), parts.end());
}

TEST(WireCursorTest, EmptySlicesAreAtTheEnd) {
  for (size_t count : {0, 1, 3}) {
    const std::vector<grpc::Slice> slices(count);
    EXPECT_TRUE(WireCursor(slices).AtEnd());
  }
}

TEST(WireCursorTest, PositionCountsOverSlices) {
  const std::vector<grpc::Slice> slices = Slices({"", "\x0a", "", "\x02", "a", "bc", ""});
  WireCursor cursor(slices);
  uint32_t tag = 0;
  uint64_t length = 0;
  ASSERT_TRUE(cursor.ReadTag(&tag));
  EXPECT_EQ(tag, MakeTag(1, kLengthDelimited));
  EXPECT_EQ(cursor.position(), 1u);
  ASSERT_TRUE(cursor.ReadLength(&length));
  EXPECT_EQ(cursor.position(), 2u);
  std::string text = "old";
  cursor.ReadString(length, &text);
  EXPECT_EQ(text, "ab");
  EXPECT_EQ(cursor.position(), 4u);
  EXPECT_EQ(cursor.remaining(), 1u);
  std::vector<absl::string_view> pieces;
  cursor.TakePieces(1, &pieces);
  EXPECT_THAT(pieces, ElementsAre("c"));
  EXPECT_TRUE(cursor.AtEnd());
}

TEST(WireCursorTest, Fixed32IsLittleEndianAcrossSlices) {
  const std::vector<grpc::Slice> slices = Slices({"\x01\x02", "\x03", "\xf4"});
  WireCursor cursor(slices);
  uint32_t value = 0;
  ASSERT_TRUE(cursor.ReadFixed32(&value));
  EXPECT_EQ(value, 0xf4030201u);
  EXPECT_FALSE(cursor.ReadFixed32(&value));
  EXPECT_STREQ(cursor.error(), "the message ends inside the field");
}

TEST(WireCursorTest, VarintsOfEveryLengthAcrossEveryBorder) {
  for (int bits = 0; bits < 64; ++bits) {
    const uint64_t number = uint64_t{1} << bits;
    std::string bytes;
    for (uint64_t rest = number; bytes.empty() || rest != 0; rest >>= 7) {
      bytes.push_back(static_cast<char>((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0)));
    }
    for (size_t border = 0; border <= bytes.size(); ++border) {
      const std::vector<grpc::Slice> slices = Slices({bytes.substr(0, border), bytes.substr(border)});
      WireCursor cursor(slices);
      uint64_t value = 0;
      ASSERT_TRUE(cursor.ReadVarint(&value)) << number << " cut at " << border;
      EXPECT_EQ(value, number);
      EXPECT_TRUE(cursor.AtEnd());
    }
  }
}

TEST(WireCursorTest, PiecesFollowTheSlicesWithoutEmptyOnes) {
  const std::vector<grpc::Slice> slices = Slices({"ab", "", "", "cd", "e"});
  WireCursor cursor(slices);
  std::vector<absl::string_view> pieces;
  cursor.TakePieces(0, &pieces);
  EXPECT_TRUE(pieces.empty());
  cursor.TakePieces(1, &pieces);
  cursor.TakePieces(4, &pieces);
  EXPECT_THAT(pieces, ElementsAre("a", "b", "cd", "e"));
  EXPECT_TRUE(cursor.AtEnd());
}

}  // namespace
}  // namespace weightstream
