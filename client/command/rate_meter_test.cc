#include "client/command/rate_meter.h"

#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

TEST(BytesPerSecondTest, IsNothingWhereTheTimeIsNone) {
  EXPECT_EQ(BytesPerSecond(500, absl::Seconds(2)), 250);
  EXPECT_EQ(BytesPerSecond(500, absl::ZeroDuration()), 0);
  EXPECT_EQ(BytesPerSecond(500, -absl::Seconds(1)), 0);
  EXPECT_EQ(BytesPerSecond(500, absl::InfiniteDuration()), 0);
}

TEST(RateMeterTest, MeasuresASteadyRate) {
  RateMeter meter;
  for (int i = 0; i <= 200; ++i) meter.Add(kStart + i * absl::Milliseconds(100), i * 1000);
  EXPECT_NEAR(meter.BytesPerSecond(kStart + absl::Seconds(20)), 10'000, 200);
}

TEST(RateMeterTest, KnowsNothingBeforeASecondSample) {
  RateMeter meter;
  EXPECT_EQ(meter.BytesPerSecond(kStart), 0);
  meter.Add(kStart, 500);
  EXPECT_EQ(meter.BytesPerSecond(kStart), 0);
}

TEST(RateMeterTest, WhatWasThereAtFirstDoesNotCount) {
  RateMeter meter;
  meter.Add(kStart, 1'000'000);
  meter.Add(kStart + absl::Seconds(1), 1'000'100);
  EXPECT_NEAR(meter.BytesPerSecond(kStart + absl::Seconds(1)), 100, 1e-6);
}

TEST(RateMeterTest, AStallBringsTheRateToZeroWithinTheWindow) {
  RateMeter meter;
  for (int i = 0; i <= 10; ++i) meter.Add(kStart + i * absl::Milliseconds(100), i * 1000);
  EXPECT_GT(meter.BytesPerSecond(kStart + absl::Seconds(2)), 0);
  EXPECT_EQ(meter.BytesPerSecond(kStart + absl::Seconds(7)), 0);
}

TEST(RateMeterTest, AFallStartsOver) {
  RateMeter meter;
  meter.Add(kStart, 0);
  meter.Add(kStart + absl::Seconds(1), 5000);
  meter.Add(kStart + absl::Seconds(2), 4000);
  EXPECT_EQ(meter.BytesPerSecond(kStart + absl::Seconds(2)), 0);
  meter.Add(kStart + absl::Seconds(3), 4500);
  EXPECT_NEAR(meter.BytesPerSecond(kStart + absl::Seconds(3)), 500, 1e-6);
}

TEST(RateMeterTest, ManyCloseSamplesStillMeasure) {
  RateMeter meter;
  for (int i = 0; i <= 10'000; ++i) meter.Add(kStart + i * absl::Milliseconds(1), i * 10);
  EXPECT_NEAR(meter.BytesPerSecond(kStart + absl::Seconds(10)), 10'000, 200);
}

}  // namespace
}  // namespace weightstream::command
