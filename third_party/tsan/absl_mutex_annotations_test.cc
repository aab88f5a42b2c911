// What Abseil's synchronisation orders is not reported as a race; what nothing orders still is. Under any other
// configuration the first half is an ordinary test of the same code.
#include <absl/base/call_once.h>
#include <absl/synchronization/barrier.h>
#include <absl/synchronization/blocking_counter.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace weightstream {
namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 2000;
constexpr absl::Duration kTooLong = absl::Seconds(60);

template <typename Body>
void RunInThreads(int count, Body body) {
  std::vector<std::thread> threads;
  threads.reserve(count);
  for (int i = 0; i < count; ++i) threads.emplace_back([body, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

TEST(AbslMutexAnnotations, LockOrdersWriters) {
  absl::Mutex mutex;
  int value = 0;
  RunInThreads(kThreads, [&](int) {
    for (int i = 0; i < kRounds; ++i) {
      absl::MutexLock lock(&mutex);
      ++value;
    }
  });
  EXPECT_EQ(value, kThreads * kRounds);
}

TEST(AbslMutexAnnotations, TryLockOrdersWritersWhenItSucceeds) {
  absl::Mutex mutex;
  int value = 0;
  RunInThreads(kThreads, [&](int) {
    for (int done = 0; done < kRounds;) {
      if (!mutex.TryLock()) {
        std::this_thread::yield();
        continue;
      }
      ++value;
      ++done;
      mutex.Unlock();
    }
  });
  EXPECT_EQ(value, kThreads * kRounds);
}

TEST(AbslMutexAnnotations, ReaderLocksAreOrderedWithWriters) {
  absl::Mutex mutex;
  int first = 0;
  int second = 0;
  RunInThreads(kThreads, [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      if (thread == 0) {
        absl::WriterMutexLock lock(&mutex);
        ++first;
        ++second;
      } else if (i % 2 == 0 && mutex.ReaderTryLock()) {
        EXPECT_EQ(first, second);
        mutex.ReaderUnlock();
      } else {
        absl::ReaderMutexLock lock(&mutex);
        EXPECT_EQ(first, second);
      }
    }
  });
  EXPECT_EQ(first, kRounds);
}

// Two threads take turns, each waiting in a different way: the condition is read by whichever thread unlocks.
TEST(AbslMutexAnnotations, EveryConditionalWaitOrdersTurns) {
  absl::Mutex mutex;
  int turn = 0;
  RunInThreads(2, [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      const auto mine = [&turn, thread] { return turn % 2 == thread; };
      const absl::Condition condition(&mine);
      switch (i % 6) {
        case 0:
          mutex.LockWhen(condition);
          break;
        case 1:
          ASSERT_TRUE(mutex.LockWhenWithTimeout(condition, kTooLong));
          break;
        case 2:
          ASSERT_TRUE(mutex.LockWhenWithDeadline(condition, absl::Now() + kTooLong));
          break;
        case 3:
          mutex.Lock();
          mutex.Await(condition);
          break;
        case 4:
          mutex.Lock();
          ASSERT_TRUE(mutex.AwaitWithTimeout(condition, kTooLong));
          break;
        default:
          mutex.Lock();
          ASSERT_TRUE(mutex.AwaitWithDeadline(condition, absl::Now() + kTooLong));
      }
      ++turn;
      mutex.Unlock();
    }
  });
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST(AbslMutexAnnotations, AwaitUnderAReaderLockSeesTheWrite) {
  for (int i = 0; i < kRounds / 10; ++i) {
    absl::Mutex mutex;
    bool ready = false;
    int value = 0;
    RunInThreads(3, [&](int thread) {
      const absl::Condition is_ready(&ready);
      if (thread == 0) {
        absl::MutexLock lock(&mutex);
        value = 7;
        ready = true;
        return;
      }
      if (thread == 1) {
        mutex.ReaderLock();
        mutex.Await(is_ready);
      } else {
        ASSERT_TRUE(mutex.ReaderLockWhenWithTimeout(is_ready, kTooLong));
      }
      EXPECT_EQ(value, 7);
      mutex.ReaderUnlock();
    });
    absl::MutexLock lock(&mutex);
    value = 0;
  }
}

TEST(AbslMutexAnnotations, CondVarWaitsOrderTurns) {
  absl::Mutex mutex;
  absl::CondVar changed;
  int turn = 0;
  RunInThreads(2, [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      absl::MutexLock lock(&mutex);
      while (turn % 2 != thread) {
        if (i % 3 == 0) {
          changed.Wait(&mutex);
        } else if (i % 3 == 1) {
          changed.WaitWithTimeout(&mutex, kTooLong);
        } else {
          changed.WaitWithDeadline(&mutex, absl::Now() + kTooLong);
        }
      }
      ++turn;
      changed.SignalAll();
    }
  });
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST(AbslMutexAnnotations, NotificationOrdersWhatCameBeforeNotify) {
  for (int i = 0; i < kRounds / 10; ++i) {
    absl::Notification notification;
    int value = 0;
    RunInThreads(kThreads, [&](int thread) {
      switch (thread) {
        case 0:
          value = 7;
          notification.Notify();
          return;
        case 1:
          notification.WaitForNotification();
          break;
        case 2:
          ASSERT_TRUE(notification.WaitForNotificationWithTimeout(kTooLong));
          break;
        default:
          while (!notification.HasBeenNotified()) std::this_thread::yield();
      }
      EXPECT_EQ(value, 7);
    });
  }
}

TEST(AbslMutexAnnotations, BlockingCounterOrdersEveryDecrementBeforeTheWait) {
  for (int i = 0; i < kRounds / 10; ++i) {
    absl::BlockingCounter remaining(kThreads);
    std::vector<int> values(kThreads);
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        values[thread] = thread;
        remaining.DecrementCount();
      });
    }
    remaining.Wait();
    for (int thread = 0; thread < kThreads; ++thread) EXPECT_EQ(values[thread], thread);
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(AbslMutexAnnotations, BarrierOrdersArrivalsBeforeDepartures) {
  for (int i = 0; i < kRounds / 10; ++i) {
    auto* barrier = new absl::Barrier(kThreads);
    std::vector<int> values(kThreads);
    RunInThreads(kThreads, [&](int thread) {
      values[thread] = thread;
      const bool last_to_leave = barrier->Block();
      for (int other = 0; other < kThreads; ++other) EXPECT_EQ(values[other], other);
      if (last_to_leave) delete barrier;
    });
  }
}

TEST(AbslMutexAnnotations, CallOnceOrdersTheCallBeforeEveryReturn) {
  for (int i = 0; i < kRounds / 10; ++i) {
    absl::once_flag once;
    std::atomic<int> arrived{0};
    std::unique_ptr<int> value;
    RunInThreads(kThreads, [&](int) {
      // Relaxed, so that it orders nothing; it only makes it likely that the others find the call in progress.
      arrived.fetch_add(1, std::memory_order_relaxed);
      absl::call_once(once, [&] {
        while (arrived.load(std::memory_order_relaxed) < kThreads) std::this_thread::yield();
        for (int yields = 0; yields < 100; ++yields) std::this_thread::yield();
        value = std::make_unique<int>(7);
      });
      EXPECT_EQ(*value, 7);
    });
  }
}

#if defined(__SANITIZE_THREAD__)
// The annotations must not order too much. Exit code 66 is ThreadSanitizer's after a report.
using AbslMutexAnnotationsDeathTest = testing::Test;

// Keeps two threads running side by side without ordering what they do to `value`.
void IncrementUnderDifferentMutexes() {
  absl::Mutex mutexes[2];
  int value = 0;
  RunInThreads(2, [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      absl::MutexLock lock(&mutexes[thread]);
      ++value;
    }
  });
}

TEST_F(AbslMutexAnnotationsDeathTest, ARaceUnderDifferentMutexesIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(IncrementUnderDifferentMutexes(), testing::ExitedWithCode(66), "data race");
}

void WriteUnderAReaderLock() {
  absl::Mutex mutex;
  int value = 0;
  RunInThreads(2, [&](int) {
    for (int i = 0; i < kRounds; ++i) {
      absl::ReaderMutexLock lock(&mutex);
      ++value;
    }
  });
}

TEST_F(AbslMutexAnnotationsDeathTest, AWriteUnderAReaderLockIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(WriteUnderAReaderLock(), testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace weightstream
