#include "client/command/ticker.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

TEST(TickerTest, TicksAgainAndAgainUntilItIsStopped) {
  std::atomic<int> ticks{0};
  absl::Notification third;
  Ticker ticker(absl::Milliseconds(1), [&] {
    if (++ticks == 3) third.Notify();
  });
  third.WaitForNotification();
  ticker.Stop();
  const int at_the_stop = ticks;
  EXPECT_GE(at_the_stop, 3);
  ticker.Stop();
  EXPECT_EQ(ticks, at_the_stop);
}

TEST(TickerTest, IsStoppedWithoutWaitingForItsInterval) {
  bool ticked = false;
  {
    Ticker ticker(absl::Hours(1000), [&] { ticked = true; });
  }
  EXPECT_FALSE(ticked);
}

}  // namespace
}  // namespace weightstream::command
