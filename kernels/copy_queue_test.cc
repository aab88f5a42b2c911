#include "kernels/copy_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace weightstream {
namespace {

// The order in which 20 jobs run that are due together: the first job holds the thread until all are there.
std::vector<int> OrderOfOneBatch(uint64_t seed) {
  std::vector<int> order;
  {
    CopyQueue queue(absl::ZeroDuration(), seed);
    absl::Notification all_added;
    absl::Notification held;
    queue.Add([&] {
      held.Notify();
      EXPECT_TRUE(all_added.WaitForNotificationWithTimeout(absl::Minutes(1)));
    });
    EXPECT_TRUE(held.WaitForNotificationWithTimeout(absl::Minutes(1)));
    for (int job = 0; job < 20; ++job) queue.Add([&order, job] { order.push_back(job); });
    all_added.Notify();
  }
  return order;
}

TEST(CopyQueueTest, ABatchRunsOutOfOrderAsTheSeedSays) {
  const std::vector<int> order = OrderOfOneBatch(1);
  EXPECT_EQ(order, OrderOfOneBatch(1));
  EXPECT_NE(order, OrderOfOneBatch(2));
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int> ascending(20);
  std::iota(ascending.begin(), ascending.end(), 0);
  EXPECT_NE(order, ascending);
  EXPECT_EQ(sorted, ascending);
}

TEST(CopyQueueTest, NoJobRunsBeforeItsLatency) {
  constexpr absl::Duration kLatency = absl::Milliseconds(20);
  absl::Notification ran;
  absl::Time finished;
  CopyQueue queue(kLatency, 1);
  const absl::Time added = absl::Now();
  queue.Add([&] {
    finished = absl::Now();
    ran.Notify();
  });
  ASSERT_TRUE(ran.WaitForNotificationWithTimeout(absl::Minutes(1)));
  EXPECT_GE(finished - added, kLatency);
}

TEST(CopyQueueTest, DestructionWaitsForJobsAndForThoseThatTheyAdd) {
  std::atomic<int> ran = 0;
  {
    CopyQueue queue(absl::Milliseconds(5), 1);
    for (int job = 0; job < 10; ++job) {
      queue.Add([&] {
        ++ran;
        queue.Add([&] { ++ran; });
      });
    }
  }
  EXPECT_EQ(ran, 20);
}

TEST(CopyQueueTest, TakesJobsFromManyThreads) {
  std::atomic<int> ran = 0;
  {
    CopyQueue queue(absl::ZeroDuration(), 1);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; ++thread) {
      threads.emplace_back([&] {
        for (int job = 0; job < 500; ++job) queue.Add([&] { ++ran; });
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(ran, 8 * 500);
}

}  // namespace
}  // namespace weightstream
