#include "kernels/staging.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "kernels/faulty_device.h"
#include "kernels/host_device.h"

namespace weightstream {
namespace {

constexpr uint64_t kSlotBytes = 1'000;
constexpr absl::Duration kLongestWait = absl::Minutes(1);

class StagingTest : public testing::Test {
 protected:
  std::unique_ptr<StagingRing> MakeRing(uint64_t slots) {
    auto ring = StagingRing::Create(device_, slots * kSlotBytes, kSlotBytes);
    EXPECT_TRUE(ring.ok()) << ring.status();
    return *std::move(ring);
  }

  // A slot that is expected to come.
  StagingSlot Take(StagingRing& ring) {
    auto slot = ring.Acquire(kLongestWait, nullptr);
    EXPECT_TRUE(slot.ok()) << slot.status();
    return slot.ok() ? *std::move(slot) : StagingSlot();
  }

  FaultyDevice device_{NewHostDevice({.device_like = true})};
};

TEST_F(StagingTest, SlotsAreDistinctAndWhollyUsable) {
  std::unique_ptr<StagingRing> ring = MakeRing(5);
  EXPECT_EQ(ring->slot_bytes(), kSlotBytes);
  EXPECT_EQ(ring->stats().slots, 5u);
  std::vector<StagingSlot> slots;
  for (char fill = 0; fill < 5; ++fill) {
    slots.push_back(Take(*ring));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slots.back().data()) % 64, 0u);
    std::memset(slots.back().data(), fill, kSlotBytes);
  }
  EXPECT_EQ(ring->stats().slots_in_use, 5u);
  for (char fill = 0; fill < 5; ++fill) {
    EXPECT_TRUE(std::string(slots[fill].data(), kSlotBytes) == std::string(kSlotBytes, fill));
  }
  slots.clear();
  EXPECT_EQ(ring->stats().slots_in_use, 0u);
  EXPECT_EQ(ring->stats().waits, 0u);
}

TEST_F(StagingTest, HasAtLeastTwoSlots) {
  auto ring = StagingRing::Create(device_, 1, kSlotBytes);
  ASSERT_TRUE(ring.ok()) << ring.status();
  EXPECT_EQ((*ring)->stats().slots, 2u);
}

TEST_F(StagingTest, UnusableSizesAreErrors) {
  EXPECT_EQ(StagingRing::Create(device_, 100, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(StagingRing::Create(device_, 1, ~uint64_t{0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(StagingRing::Create(device_, 1, uint64_t{1} << 60).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(StagingTest, TheDevicesErrorIsTheRings) {
  const absl::Status error = absl::ResourceExhaustedError("no pinned memory");
  device_.SetRule(FailCalls(DeviceCall::Kind::kAllocatePinned, 0, 1, error));
  EXPECT_EQ(StagingRing::Create(device_, 10 * kSlotBytes, kSlotBytes).status(), error);
}

TEST_F(StagingTest, MovesHandTheSlotOn) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  StagingSlot first = Take(*ring);
  char* const data = first.data();
  StagingSlot second = std::move(first);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: what a moved slot holds is promised.
  EXPECT_EQ(second.data(), data);
  StagingSlot third = Take(*ring);
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(ring->stats().slots_in_use, 1u);
  third = StagingSlot();
  EXPECT_EQ(ring->stats().slots_in_use, 0u);
}

TEST_F(StagingTest, SlotsMayOutliveTheirRing) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  StagingSlot slot = Take(*ring);
  ring.reset();
  std::memset(slot.data(), 1, kSlotBytes);
}

TEST_F(StagingTest, AcquireEndsAtItsDeadlineAndCountsTheWait) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  const StagingSlot first = Take(*ring);
  const StagingSlot second = Take(*ring);
  constexpr absl::Duration kPatience = absl::Milliseconds(30);
  const absl::Time start = absl::Now();
  EXPECT_EQ(ring->Acquire(kPatience, nullptr).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - start, kPatience);
  EXPECT_EQ(ring->Acquire(absl::ZeroDuration(), nullptr).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ring->stats().waits, 2u);
  EXPECT_GE(ring->stats().waited, kPatience);
}

TEST_F(StagingTest, AFreeSlotIsGivenEvenAtTheDeadline) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  EXPECT_TRUE(ring->Acquire(absl::ZeroDuration(), [] { return true; }).ok());
}

TEST_F(StagingTest, CancellationEndsAWaitThatIsUnderWay) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  const StagingSlot first = Take(*ring);
  const StagingSlot second = Take(*ring);
  int asked = 0;
  // Says yes only the third time: so the wait is polled while it lasts.
  EXPECT_EQ(ring->Acquire(absl::InfiniteDuration(), [&] { return ++asked == 3; }).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(ring->stats().waits, 1u);
}

TEST_F(StagingTest, AWaiterGetsTheSlotThatAnotherThreadGivesBack) {
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  StagingSlot first = Take(*ring);
  const StagingSlot second = Take(*ring);
  char* const data = first.data();
  absl::Notification waiting;
  std::thread waiter([&] {
    auto slot = ring->Acquire(kLongestWait, [&] {
      if (!waiting.HasBeenNotified()) waiting.Notify();
      return false;
    });
    ASSERT_TRUE(slot.ok()) << slot.status();
    EXPECT_EQ(slot->data(), data);
  });
  ASSERT_TRUE(waiting.WaitForNotificationWithTimeout(kLongestWait));
  first = StagingSlot();
  waiter.join();
  EXPECT_EQ(ring->stats().waits, 1u);
}

// Each slot that comes free must wake somebody: with 16 threads on 2 slots and no further poll than 100 ms, lost
// wake-ups would make this take minutes.
TEST_F(StagingTest, NobodyStarvesAndNoSlotIsSharedUnderPressure) {
  constexpr int kThreads = 16;
  constexpr int kRounds = 500;
  std::unique_ptr<StagingRing> ring = MakeRing(2);
  std::atomic<int> holders = 0;
  std::vector<std::thread> threads;
  const absl::Time start = absl::Now();
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        StagingSlot slot = Take(*ring);
        EXPECT_LE(holders.fetch_add(1), 1);
        // Two threads in one slot are a data race, which ThreadSanitizer sees, and a wrong value, which this sees.
        std::memset(slot.data(), thread, kSlotBytes);
        std::this_thread::yield();
        EXPECT_EQ(slot.data()[kSlotBytes - 1], thread);
        holders.fetch_sub(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(absl::Now() - start, absl::Minutes(2));
  EXPECT_EQ(ring->stats().slots_in_use, 0u);
  EXPECT_GT(ring->stats().waits, 0u);
}

}  // namespace
}  // namespace weightstream
