#include "server/update_pace.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

// A pace whose seconds pass by hand.
class UpdatePaceTest : public testing::Test {
 protected:
  UpdatePaceTest() {
    limits_.silent_call = absl::Seconds(30);
    limits_.least_bytes_per_second = 64 << 10;
    limits_.update_time = absl::Hours(1);
  }

  void Begin() {
    pace_.Began(now_);
    landed_ = 0;
  }
  void End(bool committed) { pace_.Ended(now_, landed_, committed); }
  void Pass(int seconds, uint64_t bytes_per_second) {
    for (int i = 0; i < seconds; ++i) {
      now_ += absl::Seconds(1);
      landed_ += bytes_per_second;
      pace_.Sample(now_, landed_);
    }
  }
  // Empty if it is not.
  std::string WhyTooSlow(uint64_t missing) const { return pace_.WhyTooSlow(now_, missing).value_or(""); }

  Limits limits_;
  UpdatePace pace_{limits_};
  absl::Duration now_ = absl::Hours(5);
  uint64_t landed_ = 0;
};

TEST_F(UpdatePaceTest, WhoSendsLessThanTheLeastIsTooSlowAfterASpan) {
  Begin();
  Pass(29, 1000);
  EXPECT_EQ(WhyTooSlow(kMiB), "");
  Pass(1, 1000);
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(kMiB), "1000 bytes a second lately, where 65536 are the least")) << "";
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(kMiB), "--least-kib-per-second"));
}

TEST_F(UpdatePaceTest, TheLeastItselfIsEnough) {
  Begin();
  Pass(60, 64 << 10);
  EXPECT_EQ(WhyTooSlow(kMiB), "");
}

TEST_F(UpdatePaceTest, WhoIsUnderWayForTooLongIsTooSlow) {
  Begin();
  Pass(3600, kMiB);
  EXPECT_EQ(WhyTooSlow(kMiB), "");
  // As fast as one may wish.
  Pass(1, kGiB);
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(kMiB), "longer than 1h (--update-seconds)"));
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(0), "--update-seconds")) << "whole or not";
}

TEST_F(UpdatePaceTest, WhoWaitsForTheCommitHasNothingToSend) {
  Begin();
  Pass(1, kGiB);
  Pass(600, 0);
  EXPECT_EQ(WhyTooSlow(0), "");
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(1), "0 bytes a second"));
}

TEST_F(UpdatePaceTest, WhatTheServerHoldsBackIsNotSlow) {
  Begin();
  for (int i = 0; i < 10; ++i) {
    Pass(20, 0);
    pace_.Restart(now_, landed_);
  }
  EXPECT_EQ(WhyTooSlow(kMiB), "");
  Pass(30, 0);
  EXPECT_NE(WhyTooSlow(kMiB), "");
}

TEST_F(UpdatePaceTest, BeginningAnewIsNoProgress) {
  Begin();
  for (int i = 0; i < 4; ++i) {
    Pass(20, 0);
    End(false);
    Begin();
  }
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(kMiB), "0 bytes a second"));
}

TEST_F(UpdatePaceTest, BytesOfAnUpdateThatWasSupersededCountAsMoved) {
  Begin();
  for (int i = 0; i < 4; ++i) {
    Pass(20, kMiB);
    End(false);
    Begin();
  }
  EXPECT_EQ(WhyTooSlow(kMiB), "");
}

TEST_F(UpdatePaceTest, TheHourIsThatOfAllThatTookEachOthersPlace) {
  Begin();
  for (int i = 0; i < 60; ++i) {
    Pass(61, kMiB);
    End(false);
    Begin();
  }
  EXPECT_TRUE(absl::StrContains(WhyTooSlow(kMiB), "--update-seconds"));
}

TEST_F(UpdatePaceTest, ACommitOrAPauseStartsOver) {
  Begin();
  Pass(40, 0);
  End(true);
  Begin();
  Pass(29, 0);
  EXPECT_EQ(WhyTooSlow(kMiB), "");
  Pass(1, 0);
  EXPECT_NE(WhyTooSlow(kMiB), "");
  End(false);
  now_ += absl::Seconds(31);
  Begin();
  Pass(29, 0);
  EXPECT_EQ(WhyTooSlow(kMiB), "");
}

}  // namespace
}  // namespace weightstream
