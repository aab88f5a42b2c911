#include "tensor/monotonic_cond_var.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace weightstream {
namespace {

constexpr absl::Duration kLongestWait = absl::Minutes(1);

class MonotonicCondVarTest : public testing::Test {
 protected:
  absl::Mutex mutex_;
  MonotonicCondVar changed_;
  int value_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(MonotonicCondVarTest, WhatHoldsAlreadyIsNotWaitedFor) {
  absl::MutexLock lock(&mutex_);
  EXPECT_TRUE(changed_.AwaitFor(mutex_, -absl::InfiniteDuration(), [] { return true; }));
  EXPECT_FALSE(changed_.AwaitFor(mutex_, -absl::InfiniteDuration(), [] { return false; }));
}

TEST_F(MonotonicCondVarTest, AWaitLastsItsLimitAndEndsWithTheMutexHeld) {
  constexpr absl::Duration kLimit = absl::Milliseconds(30);
  absl::MutexLock lock(&mutex_);
  const absl::Duration start = MonotonicNow();
  EXPECT_FALSE(changed_.AwaitFor(mutex_, kLimit, [] { return false; }));
  EXPECT_GE(MonotonicNow() - start, kLimit);
  mutex_.AssertHeld();
}

TEST_F(MonotonicCondVarTest, AllThatWaitForDifferentThingsAreWoken) {
  std::vector<std::thread> threads;
  for (int wanted = 1; wanted <= 8; ++wanted) {
    threads.emplace_back([this, wanted] {
      absl::MutexLock lock(&mutex_);
      // Without a limit and with one.
      const absl::Duration limit = wanted % 2 == 0 ? absl::InfiniteDuration() : kLongestWait;
      EXPECT_TRUE(changed_.AwaitFor(
          mutex_, limit, [this, wanted]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return value_ >= wanted; }));
    });
  }
  for (int i = 0; i < 8; ++i) {
    absl::MutexLock lock(&mutex_);
    ++value_;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(MonotonicCondVarTest, NoneOfManyIsForgottenIfEachSignalIsTaken) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 2000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      for (int round = 0; round < kRounds; ++round) {
        absl::MutexLock lock(&mutex_);
        const bool came = changed_.AwaitFor(mutex_, kLongestWait,
                                            [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return value_ > 0; });
        ASSERT_TRUE(came);
        --value_;
      }
    });
  }
  for (int i = 0; i < kThreads * kRounds; ++i) {
    absl::MutexLock lock(&mutex_);
    ++value_;
    changed_.Signal();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace weightstream
