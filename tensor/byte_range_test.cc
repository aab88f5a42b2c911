#include "tensor/byte_range.h"

#include <algorithm>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::ElementsAre;

TEST(ByteRangeSet, StartsAsItsRangeOrEmpty) {
  EXPECT_THAT(ByteRangeSet({2, 5}).ranges(), ElementsAre(ByteRange{2, 5}));
  EXPECT_TRUE(ByteRangeSet({2, 2}).empty());
  EXPECT_TRUE(ByteRangeSet().empty());
}

TEST(ByteRangeSet, AddMergesNeighboursAndCountsOnlyNewBytes) {
  ByteRangeSet set;
  EXPECT_EQ(set.Add({0, 4}), 4u);
  EXPECT_EQ(set.Add({8, 12}), 4u);
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 4}, ByteRange{8, 12}));
  EXPECT_EQ(set.Add({4, 8}), 4u);
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 12}));
  EXPECT_EQ(set.Add({2, 14}), 2u);
  EXPECT_EQ(set.Add({3, 7}), 0u);
  EXPECT_EQ(set.Add({20, 20}), 0u);
  EXPECT_EQ(set.bytes(), 14u);
}

TEST(ByteRangeSet, RemoveSplitsAndCountsOnlyHeldBytes) {
  ByteRangeSet set({0, 10});
  EXPECT_EQ(set.Remove({4, 6}), 2u);
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 4}, ByteRange{6, 10}));
  EXPECT_EQ(set.Remove({4, 6}), 0u);
  EXPECT_EQ(set.Remove({3, 7}), 2u);
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 3}, ByteRange{7, 10}));
  EXPECT_EQ(set.Remove({0, 100}), 6u);
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.bytes(), 0u);
}

TEST(ByteRangeSet, ReachesTheEndsOf64Bits) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  ByteRangeSet set({0, kMax});
  EXPECT_EQ(set.bytes(), kMax);
  EXPECT_TRUE(set.Contains({kMax - 1, kMax}));
  EXPECT_EQ(set.Remove({1, kMax - 1}), kMax - 2);
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 1}, ByteRange{kMax - 1, kMax}));
}

TEST(ByteRangeSet, InOrderChunksStayOneRange) {
  ByteRangeSet set;
  for (uint64_t i = 0; i < 1000; ++i) set.Add({i * 10, i * 10 + 10});
  EXPECT_THAT(set.ranges(), ElementsAre(ByteRange{0, 10000}));
}

// The same set as a vector of flags.
class Bitmap {
 public:
  explicit Bitmap(uint64_t bytes) : bits_(bytes) {}

  uint64_t Set(ByteRange range, bool value) {
    uint64_t changed = 0;
    for (uint64_t i = range.begin; i < range.end; ++i) {
      changed += bits_[i] != value ? 1 : 0;
      bits_[i] = value;
    }
    return changed;
  }

  ByteRanges Runs(ByteRange range, bool value) const {
    ByteRanges runs;
    for (uint64_t i = range.begin; i < range.end; ++i) {
      if (bits_[i] != value) continue;
      if (!runs.empty() && runs.back().end == i) {
        ++runs.back().end;
      } else {
        runs.push_back({i, i + 1});
      }
    }
    return runs;
  }

  uint64_t Count() const { return std::count(bits_.begin(), bits_.end(), true); }

 private:
  std::vector<bool> bits_;
};

TEST(ByteRangeSet, AgreesWithABitmapUnderRandomOperations) {
  constexpr uint64_t kBytes = 200;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const uint64_t longest = 1 + random() % 60;
    ByteRangeSet set;
    Bitmap model(kBytes);
    for (int step = 0; step < 500; ++step) {
      const uint64_t begin = random() % kBytes;
      const ByteRange range = {begin, std::min(kBytes, begin + random() % longest)};
      if (random() % 2 == 0) {
        ASSERT_EQ(set.Add(range), model.Set(range, true));
      } else {
        ASSERT_EQ(set.Remove(range), model.Set(range, false));
      }
      ASSERT_EQ(set.ranges(), model.Runs({0, kBytes}, true));
      ASSERT_EQ(set.bytes(), model.Count());
      const uint64_t probe_begin = random() % kBytes;
      const ByteRange probe = {probe_begin, std::min(kBytes, probe_begin + random() % longest)};
      ASSERT_EQ(set.Intersection(probe), model.Runs(probe, true));
      ASSERT_EQ(set.Difference(probe), model.Runs(probe, false));
      ASSERT_EQ(set.Contains(probe), model.Runs(probe, false).empty());
      ASSERT_EQ(set.Intersects(probe), !model.Runs(probe, true).empty());
    }
  }
}

}  // namespace
}  // namespace weightstream
