#include "client/stop_signal.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "client/stall_watch.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

TEST(StopSignalTest, TheFirstCauseWins) {
  StopSignal signal;
  EXPECT_FALSE(signal.stopped());
  EXPECT_TRUE(signal.cause().ok());
  signal.Stop(absl::DataLossError("first"));
  signal.Stop(absl::CancelledError("clean-up"));
  EXPECT_EQ(signal.cause(), absl::DataLossError("first"));
}

TEST(StopSignalTest, ListenersHearOnceAlsoThoseThatComeLate) {
  StopSignal signal;
  std::vector<absl::Status> heard;
  const StopSignal::Listener early(signal, [&](const absl::Status& cause) { heard.push_back(cause); });
  {
    const StopSignal::Listener gone(signal, [&](const absl::Status&) { ADD_FAILURE() << "was destroyed"; });
  }
  signal.Stop(absl::AbortedError("a"));
  signal.Stop(absl::AbortedError("b"));
  const StopSignal::Listener late(signal, [&](const absl::Status& cause) { heard.push_back(cause); });
  EXPECT_EQ(heard, (std::vector<absl::Status>{absl::AbortedError("a"), absl::AbortedError("a")}));
}

TEST(StopSignalTest, EndsWaitsOnOtherThreads) {
  StopSignal signal;
  EXPECT_FALSE(signal.WaitFor(absl::Milliseconds(1)));
  bool stopped = false;
  std::thread waiter([&] { stopped = signal.WaitFor(absl::Seconds(30)); });
  signal.Stop(absl::AbortedError("a"));
  waiter.join();
  EXPECT_TRUE(stopped);
}

TEST(StallWatchTest, StopsOnlyAfterTheLimitWithoutATick) {
  StopSignal signal;
  StallWatch watch;
  const StallWatch::Guard guard(watch, signal, absl::Seconds(10));
  const absl::Duration start = MonotonicNow();
  watch.Check(start + absl::Seconds(9));
  EXPECT_FALSE(signal.stopped());
  watch.Tick();
  watch.Check(start + absl::Seconds(15));
  watch.Check(start + absl::Seconds(24));
  EXPECT_FALSE(signal.stopped());
  EXPECT_EQ(watch.last_progress(), start + absl::Seconds(15));
  watch.Check(start + absl::Seconds(25));
  EXPECT_EQ(signal.cause(), absl::DeadlineExceededError("no progress for 10s"));
}

TEST(StallWatchTest, WatchesNothingWithoutAGuard) {
  StopSignal signal;
  StallWatch watch;
  { const StallWatch::Guard guard(watch, signal, absl::Seconds(1)); }
  watch.Check(MonotonicNow() + absl::Hours(1));
  EXPECT_FALSE(signal.stopped());
}

}  // namespace
}  // namespace weightstream
