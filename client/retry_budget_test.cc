#include "client/retry_budget.h"

#include <gtest/gtest.h>

#include <string>

#include "client/defaults.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

const absl::Status kCause = absl::UnavailableError("connection refused");

TEST(RetryBudgetTest, WaitsDoubleWithinTheirJitterUpToTheMost) {
  RetryBudget budget(100, absl::Hours(1));
  absl::Duration full = kFirstBackoff;
  for (int i = 0; i < 30; ++i) {
    const absl::StatusOr<absl::Duration> wait = budget.Fruitless(kCause);
    ASSERT_TRUE(wait.ok());
    EXPECT_GE(*wait, full / 2);
    EXPECT_LE(*wait, full);
    full = std::min(full * 2, kMostBackoff);
  }
}

TEST(RetryBudgetTest, GivesUpAfterFruitlessAttemptsInARowAndKeepsTheCause) {
  RetryBudget budget(3, absl::Hours(1));
  EXPECT_TRUE(budget.Fruitless(kCause).ok());
  EXPECT_TRUE(budget.Fruitless(kCause).ok());
  const absl::Status status = budget.Fruitless(kCause).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(status.message(), "gave up after 3 attempts without a new byte landed: connection refused");
}

TEST(RetryBudgetTest, ProgressStartsTheCountAgain) {
  RetryBudget budget(2, absl::Hours(1));
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(budget.Fruitless(kCause).ok());
    budget.Progressed();
  }
}

TEST(RetryBudgetTest, AnAnswerDoesNotStartTheCountAgain) {
  RetryBudget budget(2, absl::Hours(1));
  EXPECT_TRUE(budget.Fruitless(kCause).ok());
  budget.Answered();
  EXPECT_FALSE(budget.Fruitless(kCause).ok());
}

TEST(RetryBudgetTest, AnOutageIsCountedFromTheLastSignOfLife) {
  RetryBudget budget(5, absl::Seconds(30));
  EXPECT_EQ(budget.OutageLeft(), absl::Seconds(30));
  const absl::Duration now = MonotonicNow();
  budget.LastAlive(now - absl::Seconds(20));
  // Later calls do not move it.
  EXPECT_TRUE(budget.NoAnswer(now, kCause).ok());
  EXPECT_LE(budget.OutageLeft(), absl::Seconds(10));
  EXPECT_GT(budget.OutageLeft(), absl::Seconds(5));
  budget.Answered();
  EXPECT_EQ(budget.OutageLeft(), absl::Seconds(30));
}

TEST(RetryBudgetTest, AnOutageEndsWithTheLimitAndTheCause) {
  RetryBudget budget(5, absl::Seconds(30));
  const absl::Status status = budget.NoAnswer(MonotonicNow() - absl::Seconds(31), kCause).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(status.message(), "no answer for 30s: connection refused");
}

}  // namespace
}  // namespace weightstream
