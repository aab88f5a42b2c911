// Waits of ours while the wall clock of this process is set back by an hour: they last as long as they would have.
//
// A wait that follows the wall clock lasts an hour here, and the test longer than it may.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/stop_signal.h"
#include "kernels/host_device.h"
#include "kernels/staging.h"
#include "tensor/monotonic_clock.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {
namespace {

constexpr absl::Duration kJump = -absl::Hours(1);
constexpr absl::Duration kWait = absl::Seconds(1);

// To the file that the jumping clock has mapped.
void SetClock(absl::Duration offset) {
  const int64_t nanos = absl::ToInt64Nanoseconds(offset);
  std::fstream file(std::getenv("JUMPING_CLOCK"), std::ios::in | std::ios::out | std::ios::binary);
  file.write(reinterpret_cast<const char*>(&nanos), sizeof(nanos));
  ASSERT_TRUE(file.flush().good());
}

// Whether a thread of this process sleeps in the kernel.
bool IsAsleep(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  std::string line;
  std::getline(file, line);
  // After the name, which may hold anything but a later parenthesis.
  const size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && line[name_end + 2] == 'S';
}

class SetClockTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer's library must be the first, where the jumping clock has to be";
#endif
    SetClock(absl::ZeroDuration());
  }

  // Runs `wait` in a thread, and sets the clock back while it lasts.
  template <typename Wait>
  void SetBackDuring(Wait wait) {
    const absl::Time before = absl::Now();
    std::atomic<pid_t> thread = 0;
    std::thread waiting([&] {
      const absl::Duration start = MonotonicNow();
      thread = ::gettid();
      wait();
      EXPECT_GE(MonotonicNow() - start, kWait);
    });
    while (thread == 0 || !IsAsleep(thread)) std::this_thread::yield();
    SetClock(kJump);
    EXPECT_LT(absl::Now(), before);
    waiting.join();
  }
};

TEST_F(SetClockTest, AConditionVariablesWaitEnds) {
  SetBackDuring([] {
    absl::Mutex mutex;
    MonotonicCondVar never;
    absl::MutexLock lock(&mutex);
    EXPECT_FALSE(never.AwaitFor(mutex, kWait, [] { return false; }));
  });
}

TEST_F(SetClockTest, AWaitForAStagingSlotEnds) {
  const std::unique_ptr<Device> device = NewHostDevice({.device_like = true});
  const auto ring = StagingRing::Create(*device, 2, 1);
  ASSERT_TRUE(ring.ok()) << ring.status();
  const auto first = (*ring)->Acquire(kWait, nullptr);
  const auto second = (*ring)->Acquire(kWait, nullptr);
  ASSERT_TRUE(first.ok() && second.ok());
  SetBackDuring([&] { EXPECT_TRUE(absl::IsDeadlineExceeded((*ring)->Acquire(kWait, nullptr).status())); });
}

TEST_F(SetClockTest, ARetrysPauseEnds) {
  const StopSignal stop;
  SetBackDuring([&] { EXPECT_FALSE(stop.WaitFor(kWait)); });
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
#ifdef __SANITIZE_THREAD__
  constexpr bool kHasClock = false;
#else
  constexpr bool kHasClock = true;
#endif
  // The clock has to be there before anything reads it: this program starts itself again with it.
  if (kHasClock && std::getenv("JUMPING_CLOCK") == nullptr) {
    const std::string file = absl::StrCat(std::getenv("TEST_TMPDIR"), "/clock");
    constexpr int64_t kNoOffset = 0;
    std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char*>(&kNoOffset), sizeof(kNoOffset));
    const char* const asan = std::getenv("ASAN_OPTIONS");
    ::setenv("JUMPING_CLOCK", file.c_str(), 1);
    ::setenv("LD_PRELOAD", std::getenv("JUMPING_CLOCK_LIBRARY"), 1);
    ::setenv("ASAN_OPTIONS", absl::StrCat(asan == nullptr ? "" : asan, ":verify_asan_link_order=0").c_str(), 1);
    ::execv("/proc/self/exe", argv);
    std::perror("set_clock_test: cannot start itself again");
    return 1;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
