// The judgement of rates, by numbers that no machine measured.
#include "tests/gpu/goals.h"

#include <gtest/gtest.h>

namespace weightstream {
namespace {

RateRow Row(double rate, double of_rate, double to_reach) {
  return {"pipeline", rate, "the ceiling", of_rate, to_reach};
}

TEST(GoalsTest, AShareAtOrAboveTheGoalReachesIt) {
  EXPECT_EQ(Judge(Row(9, 10, kPipelineGoal)), Verdict::kReached);
  EXPECT_EQ(Judge(Row(11, 10, kPushGoal)), Verdict::kReached);
  EXPECT_EQ(Judge(Row(10, 10, kPushGoal)), Verdict::kReached) << "not slower";
  EXPECT_EQ(ShareText(Row(9, 10, kPipelineGoal)), "  0.90 of the ceiling, 0.90 to reach: reached");
}

TEST(GoalsTest, AShareBelowItMissesItByHoweverLittle) {
  EXPECT_EQ(Judge(Row(8.999, 10, kPipelineGoal)), Verdict::kMissed);
  EXPECT_EQ(Judge(Row(4.9, 10, kDigestGoal)), Verdict::kMissed);
  EXPECT_EQ(ShareText(Row(4.2, 10, kDigestGoal)), "  0.42 of the ceiling, 0.50 to reach: MISSED");
}

TEST(GoalsTest, WithoutTheOtherRateThereIsNoJudgement) {
  EXPECT_EQ(Judge(Row(9, 0, kPushGoal)), Verdict::kNotComparable);
  EXPECT_EQ(ShareText(Row(9, 0, kPushGoal)), "  not judged: no rate of the ceiling");
}

TEST(GoalsTest, RatesWithoutAGoalAreOnlyShown) {
  EXPECT_EQ(Judge(Row(1, 10, 0)), Verdict::kNoGoal);
  EXPECT_EQ(ShareText(Row(1, 10, 0)), "  0.10 of the ceiling");
  EXPECT_EQ(ShareText({.name = "the ceiling", .rate = 10}), "");
}

TEST(GoalsTest, TheSummaryNamesWhatWasMissedAndWhatCouldNotBeJudged) {
  const RateRow ceiling{.name = "the ceiling", .rate = 10};
  const RateRow pipeline = Row(9.5, 10, kPipelineGoal);
  EXPECT_EQ(JudgementOf({ceiling, pipeline}), "reached: 1 of 1");
  const RateRow digest{"digest", 4.99, "bandwidth", 10, kDigestGoal};
  const RateRow cast{"cast", 3, "bandwidth", 10, kCastGoal};
  const RateRow push{"push", 3, "push to host", 0, kPushGoal};
  EXPECT_EQ(JudgementOf({ceiling, pipeline, push}), "reached: 1 of 2; not judged: push");
  EXPECT_EQ(JudgementOf({ceiling, pipeline, digest, cast, push}),
            "missed: digest (0.499 of 0.50), cast (0.300 of 0.70); reached: 1 of 4; not judged: push");
}

}  // namespace
}  // namespace weightstream
