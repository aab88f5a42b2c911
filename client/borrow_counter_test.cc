#include "client/borrow_counter.h"

#include <gtest/gtest.h>

#include <thread>

namespace weightstream {
namespace {

TEST(BorrowCounterTest, WaitsUntilTheLastLoanIsReturned) {
  const auto counter = std::make_shared<BorrowCounter>();
  EXPECT_TRUE(counter->WaitUntilReturned(absl::ZeroDuration()));
  const std::function<void()> first = BorrowCounter::Borrow(counter);
  const std::function<void()> second = BorrowCounter::Borrow(counter);
  EXPECT_EQ(counter->outstanding(), 2u);
  first();
  EXPECT_FALSE(counter->WaitUntilReturned(absl::Milliseconds(1)));
  std::thread other(second);
  EXPECT_TRUE(counter->WaitUntilReturned(absl::Seconds(30)));
  other.join();
  EXPECT_EQ(counter->outstanding(), 0u);
}

TEST(BorrowCounterTest, ALoanMayOutliveItsBorrower) {
  auto counter = std::make_shared<BorrowCounter>();
  const std::function<void()> late = BorrowCounter::Borrow(counter);
  EXPECT_FALSE(counter->WaitUntilReturned(absl::ZeroDuration()));
  counter.reset();
  late();
}

}  // namespace
}  // namespace weightstream
