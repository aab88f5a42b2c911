#include "tests/bench/sending.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"

namespace weightstream::bench {
namespace {

TEST(SendingTest, SharesAreTheWholeInOrder) {
  std::string bytes;
  for (int i = 0; i < 1003; ++i) bytes.push_back(static_cast<char>(i % 251));
  for (const int connections : {1, 2, 3, 8}) {
    std::string joined;
    for (const Share& share : SplitOverConnections(bytes, connections)) {
      EXPECT_EQ(share.begin, joined.size());
      absl::StrAppend(&joined, share.bytes);
    }
    EXPECT_EQ(joined, bytes) << connections;
  }
}

TEST(SendingTest, OneShareThatFailsFailsTheRound) {
  std::atomic<int> calls{0};
  const absl::Status status = SendShares(SplitOverConnections("abcdef", 3), [&](const Share& share) {
    ++calls;
    return share.begin == 2 ? absl::UnavailableError("cut") : absl::OkStatus();
  });
  EXPECT_EQ(status, absl::UnavailableError("cut"));
  EXPECT_EQ(calls, 3);
}

TEST(CycledBufferTest, RepeatsAfterThePeriod) {
  const uint64_t period = 64 << 10;
  const auto buffer = CycledBuffer::Create(3 * period + 4096, period);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const absl::string_view bytes = (*buffer)->bytes();
  EXPECT_EQ(bytes.substr(period, period), bytes.substr(0, period));
  EXPECT_EQ(bytes.substr(3 * period), bytes.substr(0, 4096));
  EXPECT_NE(bytes.substr(0, 4096), bytes.substr(4096, 4096));
}

TEST(CycledBufferTest, AFileHasTheSameBytesForAll) {
  const std::string path = absl::StrCat(testing::TempDir(), "/source");
  const uint64_t period = 64 << 10;
  const auto alone = CycledBuffer::Create(period, period);
  const auto first = CycledBuffer::Create(period, period, path);
  const auto second = CycledBuffer::Create(2 * period, period, path);
  ASSERT_TRUE(alone.ok() && first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ((*first)->bytes(), (*alone)->bytes());
  EXPECT_EQ((*second)->bytes().substr(period), (*alone)->bytes());
}

TEST(CycledBufferTest, AFileGrowsWithTheWish) {
  const std::string path = absl::StrCat(testing::TempDir(), "/growing");
  const uint64_t size = 64 << 10;
  ASSERT_TRUE(CycledBuffer::Create(size, size, path).ok());
  const auto larger = CycledBuffer::Create(2 * size, 2 * size, path);
  const auto alone = CycledBuffer::Create(2 * size, 2 * size);
  ASSERT_TRUE(larger.ok() && alone.ok());
  EXPECT_EQ((*larger)->bytes(), (*alone)->bytes());
}

TEST(CycledBufferTest, OddSizesAreRefused) {
  EXPECT_EQ(CycledBuffer::Create(100, 100).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CycledBuffer::Create(0, 4096).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weightstream::bench
