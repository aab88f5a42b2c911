#include "server/recent_rate.h"

#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr absl::Duration kSpan = absl::Seconds(30);

TEST(RecentRateTest, SaysNothingBeforeAWholeSpan) {
  RecentRate rate(kSpan, absl::Seconds(100));
  EXPECT_FALSE(rate.BytesPerSecond().has_value());
  for (int second = 101; second < 130; ++second) rate.Sample(absl::Seconds(second), 0);
  EXPECT_FALSE(rate.BytesPerSecond().has_value());
  rate.Sample(absl::Seconds(130), 60);
  EXPECT_EQ(rate.BytesPerSecond(), 2);
}

TEST(RecentRateTest, LooksBackOverOneToTwoSpans) {
  RecentRate rate(kSpan, absl::ZeroDuration());
  // A thousand bytes a second for a minute, and then none.
  for (int second = 1; second <= 60; ++second) rate.Sample(absl::Seconds(second), second * 1000);
  EXPECT_EQ(rate.BytesPerSecond(), 1000);
  for (int second = 61; second <= 89; ++second) {
    rate.Sample(absl::Seconds(second), 60'000);
    EXPECT_GT(rate.BytesPerSecond(), 0) << second;
  }
  for (int second = 90; second <= 120; ++second) rate.Sample(absl::Seconds(second), 60'000);
  EXPECT_EQ(rate.BytesPerSecond(), 0);
}

TEST(RecentRateTest, WhatDidNotComeInAPauseProvesNothing) {
  RecentRate rate(kSpan, absl::ZeroDuration(), 7);
  for (int second = 1; second <= 40; ++second) rate.Sample(absl::Seconds(second), 7);
  EXPECT_EQ(rate.BytesPerSecond(), 0);
  rate.Sample(absl::Seconds(46), 8);
  EXPECT_FALSE(rate.BytesPerSecond().has_value());
  for (int second = 47; second <= 76; ++second) rate.Sample(absl::Seconds(second), 38);
  EXPECT_EQ(rate.BytesPerSecond(), 1) << "from the pause on";
}

TEST(RecentRateTest, ASpanShorterThanTheSamplesAreApartWorks) {
  RecentRate rate(absl::Milliseconds(10), absl::ZeroDuration());
  rate.Sample(absl::Seconds(1), 100);
  EXPECT_EQ(rate.BytesPerSecond(), 100);
  rate.Sample(absl::Seconds(2), 100);
  EXPECT_EQ(rate.BytesPerSecond(), 0) << "since the sample before";
}

TEST(RecentRateTest, ASpanOfNothingDividesByNothing) {
  RecentRate rate(absl::ZeroDuration(), absl::Seconds(1));
  EXPECT_FALSE(rate.BytesPerSecond().has_value());
  rate.Sample(absl::Seconds(1), 5);
  EXPECT_FALSE(rate.BytesPerSecond().has_value());
}

}  // namespace
}  // namespace weightstream
