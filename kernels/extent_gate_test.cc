#include "kernels/extent_gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"

namespace weightstream {
namespace {

constexpr absl::Duration kLongestWait = absl::Minutes(1);

TEST(ExtentGateTest, WorksOncePerExtent) {
  ExtentGate gate(5);
  std::vector<uint64_t> worked;
  const auto work = [&](uint64_t extent) {
    worked.push_back(extent);
    return absl::OkStatus();
  };
  EXPECT_EQ(gate.Pass(1, 3, work), absl::OkStatus());
  EXPECT_EQ(gate.Pass(0, 5, work), absl::OkStatus());
  EXPECT_EQ(gate.Pass(0, 5, work), absl::OkStatus());
  EXPECT_EQ(worked, (std::vector<uint64_t>{1, 2, 0, 3, 4}));
}

TEST(ExtentGateTest, AnErrorLeavesItsExtentForALaterCall) {
  ExtentGate gate(3);
  const absl::Status full = absl::ResourceExhaustedError("full");
  EXPECT_EQ(gate.Pass(0, 3, [&](uint64_t extent) { return extent == 1 ? full : absl::OkStatus(); }), full);
  EXPECT_TRUE(gate.IsDone(0, 1));
  EXPECT_FALSE(gate.IsDone(0, 2));
  EXPECT_FALSE(gate.IsDone(2, 3));
  EXPECT_EQ(gate.Pass(0, 3, [](uint64_t) { return absl::OkStatus(); }), absl::OkStatus());
  EXPECT_TRUE(gate.IsDone(0, 3));
}

TEST(ExtentGateTest, OtherExtentsDoNotWait) {
  ExtentGate gate(2);
  absl::Notification started, go_on;
  std::thread slow([&] {
    EXPECT_EQ(gate.Pass(0, 1,
                        [&](uint64_t) {
                          started.Notify();
                          EXPECT_TRUE(go_on.WaitForNotificationWithTimeout(kLongestWait));
                          return absl::OkStatus();
                        }),
              absl::OkStatus());
  });
  ASSERT_TRUE(started.WaitForNotificationWithTimeout(kLongestWait));
  // Would hang here until the slow one gives up, and fails it.
  EXPECT_EQ(gate.Pass(1, 2, [](uint64_t) { return absl::OkStatus(); }), absl::OkStatus());
  EXPECT_FALSE(gate.IsDone(0, 1));
  go_on.Notify();
  slow.join();
}

TEST(ExtentGateTest, TheSameExtentIsWorkedOnByOneThreadWhileOthersWait) {
  constexpr uint64_t kExtents = 200;
  ExtentGate gate(kExtents);
  std::vector<std::atomic<int>> works(kExtents);
  // Not atomic: ThreadSanitizer sees whether passing the gate orders the work before what follows.
  std::vector<int> results(kExtents, 0);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&] {
      for (uint64_t extent = 0; extent < kExtents; ++extent) {
        EXPECT_EQ(gate.Pass(extent, extent + 1,
                            [&](uint64_t at) {
                              works[at].fetch_add(1);
                              results[at] = 7;
                              return absl::OkStatus();
                            }),
                  absl::OkStatus());
        EXPECT_EQ(results[extent], 7);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::atomic<int>& count : works) EXPECT_EQ(count, 1);
}

TEST(ExtentGateTest, AWaiterTriesItselfWhenTheFirstOneFails) {
  ExtentGate gate(1);
  absl::Notification started, fail;
  std::thread first([&] {
    EXPECT_EQ(gate.Pass(0, 1,
                        [&](uint64_t) -> absl::Status {
                          started.Notify();
                          EXPECT_TRUE(fail.WaitForNotificationWithTimeout(kLongestWait));
                          return absl::ResourceExhaustedError("full");
                        })
                  .code(),
              absl::StatusCode::kResourceExhausted);
  });
  ASSERT_TRUE(started.WaitForNotificationWithTimeout(kLongestWait));
  bool tried = false;
  std::thread second([&] {
    EXPECT_EQ(gate.Pass(0, 1,
                        [&](uint64_t) {
                          tried = true;
                          return absl::OkStatus();
                        }),
              absl::OkStatus());
  });
  fail.Notify();
  first.join();
  second.join();
  EXPECT_TRUE(tried);
  EXPECT_TRUE(gate.IsDone(0, 1));
}

}  // namespace
}  // namespace weightstream
