#include "server/range_tracker.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Tensors of these sizes, one after the other.
std::vector<PlacedTensor> Tensors(const std::vector<uint64_t>& sizes) {
  std::vector<PlacedTensor> tensors;
  uint64_t at = 0;
  for (const uint64_t size : sizes) {
    PlacedTensor tensor;
    tensor.spec.shape = {size};
    tensor.range = {at, at + size};
    tensors.push_back(tensor);
    at += size;
  }
  return tensors;
}

// Of one tensor.
ByteRanges Claim(RangeTracker& tracker, uint32_t tensor, ByteRange range) {
  ByteRanges claimed;
  for (const TensorRange& part : tracker.Claim({{tensor, range}})) {
    EXPECT_EQ(part.tensor, tensor);
    claimed.push_back(part.range);
  }
  return claimed;
}

std::vector<TensorRange> Of(uint32_t tensor, const ByteRanges& ranges) {
  std::vector<TensorRange> all;
  for (const ByteRange& range : ranges) all.push_back({tensor, range});
  return all;
}

void Land(RangeTracker& tracker, uint32_t tensor, const ByteRanges& claimed) { tracker.Land(Of(tensor, claimed)); }

void Release(RangeTracker& tracker, uint32_t tensor, const ByteRanges& claimed) {
  tracker.Release(Of(tensor, claimed));
}

TEST(RangeTrackerTest, SeveralTensorsAreClaimedAtOnceInTheOrderAskedFor) {
  RangeTracker tracker(Tensors({10, 0, 5}));
  Land(tracker, 0, Claim(tracker, 0, {3, 6}));
  const std::vector<TensorRange> claimed = tracker.Claim({{2, {0, 5}}, {1, {0, 0}}, {0, {0, 10}}, {2, {0, 5}}});
  EXPECT_THAT(claimed, ElementsAre(TensorRange{2, {0, 5}}, TensorRange{0, {0, 3}}, TensorRange{0, {6, 10}}));
  tracker.Land(claimed);
  EXPECT_EQ(tracker.missing_bytes(), 0);
}

TEST(RangeTrackerTest, EverythingIsMissingAtFirstAndEmptyTensorsAreNot) {
  const RangeTracker tracker(Tensors({10, 0, 5}));
  EXPECT_EQ(tracker.total_bytes(), 15);
  EXPECT_EQ(tracker.landed_bytes(), 0);
  const auto missing = tracker.Missing();
  ASSERT_EQ(missing.size(), 2);
  EXPECT_EQ(missing[0].tensor, 0);
  EXPECT_THAT(missing[0].ranges, ElementsAre(ByteRange{0, 10}));
  EXPECT_EQ(missing[1].tensor, 2);
  EXPECT_THAT(missing[1].ranges, ElementsAre(ByteRange{0, 5}));
}

TEST(RangeTrackerTest, WhatIsClaimedCannotBeClaimedAgain) {
  RangeTracker tracker(Tensors({100}));
  EXPECT_THAT(Claim(tracker, 0, {20, 40}), ElementsAre(ByteRange{20, 40}));
  EXPECT_THAT(Claim(tracker, 0, {20, 40}), IsEmpty());
  EXPECT_THAT(Claim(tracker, 0, {10, 50}), ElementsAre(ByteRange{10, 20}, ByteRange{40, 50}));
  EXPECT_THAT(Claim(tracker, 0, {30, 30}), IsEmpty());
}

TEST(RangeTrackerTest, WhatIsClaimedCountsAsMissingUntilItLands) {
  RangeTracker tracker(Tensors({100}));
  const auto claimed = Claim(tracker, 0, {0, 60});
  EXPECT_EQ(tracker.missing_bytes(), 100);
  EXPECT_THAT(tracker.Missing()[0].ranges, ElementsAre(ByteRange{0, 100}));
  Land(tracker, 0, claimed);
  EXPECT_EQ(tracker.landed_bytes(), 60);
  EXPECT_THAT(tracker.Missing()[0].ranges, ElementsAre(ByteRange{60, 100}));
}

TEST(RangeTrackerTest, WhatIsReleasedCanBeClaimedAgain) {
  RangeTracker tracker(Tensors({100}));
  Release(tracker, 0, Claim(tracker, 0, {0, 60}));
  EXPECT_EQ(tracker.landed_bytes(), 0);
  EXPECT_THAT(Claim(tracker, 0, {50, 70}), ElementsAre(ByteRange{50, 70}));
}

TEST(RangeTrackerTest, WhatHasLandedIsNeverClaimedAgain) {
  RangeTracker tracker(Tensors({100, 100}));
  Land(tracker, 1, Claim(tracker, 1, {0, 100}));
  EXPECT_THAT(Claim(tracker, 1, {0, 100}), IsEmpty());
  EXPECT_EQ(tracker.missing_bytes(), 100);
  EXPECT_THAT(Claim(tracker, 0, {0, 100}), ElementsAre(ByteRange{0, 100})) << "tensors are apart";
}

// One byte, one state: what the tracker is an optimisation of.
void CheckAgainstAByteByByteModel(uint64_t bytes, uint32_t seed, int steps) {
  enum class State { kMissing, kClaimed, kLanded };
  std::vector<State> model(bytes, State::kMissing);
  ByteRanges held;
  RangeTracker tracker(Tensors({bytes}));
  std::mt19937 random(seed);
  const auto below = [&](uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random); };
  for (int step = 0; step < steps; ++step) {
    if (held.empty() || below(2) == 0) {
      const uint64_t begin = below(bytes);
      const ByteRange wanted{begin, begin + below(bytes - begin + 1)};
      uint64_t expected = 0;
      for (uint64_t i = wanted.begin; i < wanted.end; ++i) expected += model[i] == State::kMissing ? 1 : 0;
      uint64_t got = 0;
      for (const ByteRange& part : Claim(tracker, 0, wanted)) {
        got += part.size();
        held.push_back(part);
        for (uint64_t i = part.begin; i < part.end; ++i) {
          ASSERT_EQ(model[i], State::kMissing);
          model[i] = State::kClaimed;
        }
      }
      ASSERT_EQ(got, expected);
    } else {
      const size_t which = below(held.size());
      ByteRange part = held[which];
      held.erase(held.begin() + static_cast<ptrdiff_t>(which));
      // Now and then only a half of what was claimed at once.
      if (const uint64_t half = part.begin + part.size() / 2; half > part.begin && below(4) == 0) {
        held.push_back({half, part.end});
        part.end = half;
      }
      const bool land = below(20) == 0;
      for (uint64_t i = part.begin; i < part.end; ++i) model[i] = land ? State::kLanded : State::kMissing;
      land ? Land(tracker, 0, {part}) : Release(tracker, 0, {part});
    }
    ByteRangeSet missing;
    ByteRangeSet claimed;
    ByteRangeSet not_landed;
    for (uint64_t i = 0; i < bytes; ++i) {
      if (model[i] == State::kMissing) missing.Add({i, i + 1});
      if (model[i] == State::kClaimed) claimed.Add({i, i + 1});
      if (model[i] != State::kLanded) not_landed.Add({i, i + 1});
    }
    const auto reported = tracker.Missing();
    ASSERT_EQ(reported.empty() ? ByteRanges() : reported[0].ranges, not_landed.ranges());
    ASSERT_EQ(tracker.landed_bytes(), bytes - not_landed.bytes());
    ASSERT_EQ(tracker.fragments(), missing.ranges().size() + claimed.ranges().size());
  }
}

TEST(RangeTrackerTest, AgreesWithAByteByByteModel) { CheckAgainstAByteByByteModel(97, /*seed=*/7, /*steps=*/3000); }

// Which are claimed, released and landed whole as often as in parts.
TEST(RangeTrackerTest, AgreesWithAByteByByteModelOfSmallTensors) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    CheckAgainstAByteByByteModel(/*bytes=*/1 + seed % 3, seed, /*steps=*/40);
    if (HasFatalFailure()) return;
  }
}

TEST(RangeTrackerTest, ThreadsNeverShareAByteAndLandedNeverDecreases) {
  constexpr uint64_t kBytes = 512;
  constexpr int kThreads = 4;
  RangeTracker tracker(Tensors({kBytes}));
  std::vector<std::atomic<int>> owner(kBytes);
  std::atomic<bool> failed{false};
  const auto work = [&](int id) {
    std::mt19937 random(static_cast<uint32_t>(id));
    uint64_t landed_before = 0;
    while (tracker.missing_bytes() > 0 && !failed) {
      const uint64_t begin = random() % kBytes;
      const ByteRange wanted{begin, std::min(kBytes, begin + 1 + random() % 64)};
      const ByteRanges claimed = Claim(tracker, 0, wanted);
      for (const ByteRange& part : claimed) {
        for (uint64_t i = part.begin; i < part.end; ++i) {
          if (owner[i].exchange(id) != 0) failed = true;
        }
      }
      const bool land = random() % 4 == 0;
      // A landed byte keeps its owner: whoever got it again would see that.
      for (const ByteRange& part : claimed) {
        for (uint64_t i = part.begin; !land && i < part.end; ++i) owner[i] = 0;
      }
      land ? Land(tracker, 0, claimed) : Release(tracker, 0, claimed);
      const uint64_t landed = tracker.landed_bytes();
      if (landed < landed_before) failed = true;
      landed_before = landed;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i <= kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(tracker.landed_bytes(), kBytes);
  EXPECT_THAT(tracker.Missing(), IsEmpty());
}

TEST(RangeTrackerTest, FragmentsCountThePiecesOfWhatHasNotLanded) {
  const std::vector<PlacedTensor> tensors = {{{"a", DType::kU8, {100}}, {0, 100}},
                                             {{"b", DType::kU8, {0}}, {100, 100}}};
  RangeTracker tracker(tensors);
  EXPECT_EQ(tracker.fragments(), 1u);
  const ByteRanges middle = Claim(tracker, 0, {40, 50});
  EXPECT_EQ(tracker.fragments(), 3u);
  Land(tracker, 0, middle);
  EXPECT_EQ(tracker.fragments(), 2u);
  const ByteRanges again = Claim(tracker, 0, {50, 60});
  EXPECT_EQ(tracker.fragments(), 3u);
  Release(tracker, 0, again);
  EXPECT_EQ(tracker.fragments(), 2u);
  Land(tracker, 0, Claim(tracker, 0, {0, 100}));
  EXPECT_EQ(tracker.fragments(), 0u);
}

}  // namespace
}  // namespace weightstream
