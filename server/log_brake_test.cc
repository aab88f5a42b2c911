#include "server/log_brake.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr absl::Duration kStart = absl::Hours(1);

TEST(LogBrakeTest, APeerHasALineInTenSecondsWhichCountsThoseLeftOut) {
  LogBrake brake;
  EXPECT_EQ(brake.Count("a", kStart), 1u);
  for (int i = 1; i <= 1000; ++i) EXPECT_EQ(brake.Count("a", kStart + absl::Milliseconds(9 * i)), 0u) << i;
  EXPECT_EQ(brake.Count("a", kStart + LogBrake::kEvery), 1001u);
  EXPECT_EQ(brake.Count("a", kStart + LogBrake::kEvery * 2), 1u);
}

TEST(LogBrakeTest, APeerDoesNotHideAnother) {
  LogBrake brake;
  EXPECT_EQ(brake.Count("a", kStart), 1u);
  EXPECT_EQ(brake.Count("a", kStart), 0u);
  EXPECT_EQ(brake.Count("b", kStart), 1u);
}

TEST(LogBrakeTest, WhoeverComesFromManyAddressesHasFewLinesAndAllAreCounted) {
  LogBrake brake;
  constexpr uint64_t kPeers = 100'000;
  uint64_t lines = 0;
  uint64_t counted = 0;
  const auto count = [&](const std::string& peer, absl::Duration now) {
    const uint64_t refused = brake.Count(peer, now);
    lines += refused > 0 ? 1 : 0;
    counted += refused;
  };
  for (uint64_t i = 0; i < kPeers; ++i) count(absl::StrCat("peer-", i), kStart + absl::Milliseconds(i / 100));
  EXPECT_EQ(lines, LogBrake::kMostPeers + 1);
  // Ten seconds later there is a place again, and the others' line tells what was left out.
  for (size_t i = 0; i <= LogBrake::kMostPeers; ++i) count(absl::StrCat("later-", i), kStart + LogBrake::kEvery * 2);
  EXPECT_EQ(counted, kPeers + LogBrake::kMostPeers + 1);
}

}  // namespace
}  // namespace weightstream
