#include "client/planner.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

#include "proto/chunk_codec.h"
#include "tensor/byte_range.h"

namespace weightstream {
namespace {

uint64_t Bytes(const TensorSpec& spec) { return TensorByteSize(spec).value(); }

std::vector<PlannedChunk> Drain(ChunkPlan& plan) {
  std::vector<PlannedChunk> chunks;
  while (const absl::optional<PlannedChunk> chunk = plan.Next()) chunks.push_back(*chunk);
  EXPECT_EQ(chunks.size(), plan.total_chunks());
  return chunks;
}

ByteRanges RangesOf(const TensorSpec& spec, uint64_t chunk_bytes) {
  ChunkPlan plan({spec}, {{0, {{0, Bytes(spec)}}}}, chunk_bytes, /*pack=*/false);
  ByteRanges ranges;
  for (const PlannedChunk& chunk : Drain(plan)) ranges.push_back(chunk.range);
  return ranges;
}

using Ranges = ByteRanges;

TEST(ChunkPlanTest, SmallerThanAnElementCutsElements) {
  EXPECT_EQ(RangesOf({"t", DType::kF64, {2}}, 3), (Ranges{{0, 3}, {3, 6}, {6, 9}, {9, 12}, {12, 15}, {15, 16}}));
}

TEST(ChunkPlanTest, SmallerThanARowEndsBetweenElements) {
  EXPECT_EQ(RangesOf({"t", DType::kF32, {2, 5}}, 12), (Ranges{{0, 12}, {12, 24}, {24, 36}, {36, 40}}));
}

TEST(ChunkPlanTest, NotAMultipleOfTheElementIsRoundedDown) {
  EXPECT_EQ(RangesOf({"t", DType::kF32, {5}}, 11), (Ranges{{0, 8}, {8, 16}, {16, 20}}));
}

TEST(ChunkPlanTest, PackedElementsStayTogether) {
  // Four elements of 6 bits in three bytes.
  EXPECT_EQ(RangesOf({"t", DType::kF6E2M3, {16}}, 8), (Ranges{{0, 6}, {6, 12}}));
}

TEST(ChunkPlanTest, EqualToTheTensorIsOneChunk) {
  EXPECT_EQ(RangesOf({"t", DType::kF32, {10}}, 40), (Ranges{{0, 40}}));
  EXPECT_EQ(RangesOf({"t", DType::kF32, {10}}, 41), (Ranges{{0, 40}}));
  EXPECT_EQ(RangesOf({"t", DType::kF32, {10}}, ~uint64_t{0}), (Ranges{{0, 40}}));
}

TEST(ChunkPlanTest, OneByteLessThanTheTensorIsTwoChunks) {
  EXPECT_EQ(RangesOf({"t", DType::kF32, {10}}, 39), (Ranges{{0, 36}, {36, 40}}));
  EXPECT_EQ(RangesOf({"t", DType::kU8, {40}}, 39), (Ranges{{0, 39}, {39, 40}}));
}

TEST(ChunkPlanTest, LargeChunksEndOnPagesOfTheTensor) {
  EXPECT_EQ(RangesOf({"t", DType::kU8, {20000}}, 10000), (Ranges{{0, 8192}, {8192, 16384}, {16384, 20000}}));
  // Also where the missing range starts in the middle.
  ChunkPlan plan({{"t", DType::kU8, {40000}}}, {{0, {{5000, 40000}}}}, 10000, /*pack=*/false);
  const std::vector<PlannedChunk> chunks = Drain(plan);
  EXPECT_EQ(chunks.front().range, (ByteRange{5000, 12288}));
  for (size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_EQ(chunks[i].range.end % 4096, 0u);
}

TEST(ChunkPlanTest, EmptyTensorsAndRangesHaveNoChunk) {
  ChunkPlan plan({{"e", DType::kF32, {0}}, {"t", DType::kU8, {4}}}, {{0, {}}, {1, {{2, 2}, {3, 4}}}}, 100,
                 /*pack=*/false);
  EXPECT_EQ(plan.total_bytes(), 1u);
  EXPECT_EQ(Drain(plan), (std::vector<PlannedChunk>{{1, {3, 4}}}));
  EXPECT_EQ(plan.Next(), absl::nullopt);
}

TEST(ChunkPlanTest, NothingMissingIsNoChunk) {
  ChunkPlan plan({{"t", DType::kU8, {4}}}, {}, 1, /*pack=*/false);
  EXPECT_EQ(plan.total_chunks(), 0u);
  EXPECT_EQ(plan.Next(), absl::nullopt);
}

TEST(ChunkPlanTest, ChunksCoverWhatIsMissingExactlyOnce) {
  std::mt19937_64 random(20);
  constexpr DType kTypes[] = {DType::kU8, DType::kBF16, DType::kF64, DType::kF6E3M2, DType::kF4};
  for (int round = 0; round < 300; ++round) {
    std::vector<TensorSpec> tensors;
    std::vector<MissingTensor> missing;
    std::vector<ByteRangeSet> left;
    uint64_t total = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      const TensorSpec spec{"t", kTypes[random() % 5], {random() % 3000, 4}};
      left.emplace_back();
      for (int n = 0; n < 3 && Bytes(spec) > 0; ++n) {
        const uint64_t begin = random() % Bytes(spec);
        left.back().Add({begin, begin + random() % (Bytes(spec) - begin + 1)});
      }
      total += left.back().bytes();
      missing.push_back({i, left.back().ranges()});
      tensors.push_back(spec);
    }
    const uint64_t chunk_bytes = 1 + random() % (round % 2 == 0 ? 9000 : 30);
    ChunkPlan plan(tensors, missing, chunk_bytes, /*pack=*/false);
    EXPECT_EQ(plan.total_bytes(), total);
    for (const PlannedChunk& chunk : Drain(plan)) {
      ASSERT_GT(chunk.range.size(), 0u);
      ASSERT_LE(chunk.range.size(), chunk_bytes);
      // Every byte of it was still to be covered.
      ASSERT_EQ(left[chunk.tensor].Remove(chunk.range), chunk.range.size());
    }
    for (const ByteRangeSet& rest : left) EXPECT_TRUE(rest.empty());
  }
}

// ---- Packed chunks ----

constexpr uint64_t kKiB = 1 << 10;

// As a server lists them whose layout has them in the opposite order.
std::vector<MissingTensor> AllMissing(const std::vector<TensorSpec>& tensors) {
  std::vector<MissingTensor> missing;
  const uint32_t count = static_cast<uint32_t>(tensors.size());
  for (uint32_t i = 0; i < count; ++i) missing.push_back({i, {{0, Bytes(tensors[i])}}, count - 1 - i});
  return missing;
}

TEST(ChunkPlanTest, SmallTensorsArePackedInTheServersOrder) {
  const std::vector<TensorSpec> tensors = {
      {"c", DType::kU8, {10}}, {"large", DType::kF32, {kKiB}}, {"b", DType::kU8, {20}}, {"a", DType::kF32, {5}}};
  ChunkPlan plan(tensors, AllMissing(tensors), 2 * kKiB, /*pack=*/true);
  EXPECT_EQ(plan.total_bytes(), 50 + 4 * kKiB);
  EXPECT_EQ(Drain(plan), (std::vector<PlannedChunk>{
                             {1, {0, 2 * kKiB}}, {1, {2 * kKiB, 4 * kKiB}}, {3, {0, 20}, /*followed_by=*/{2, 0}}}));
}

TEST(ChunkPlanTest, APackIsNoLargerThanAChunk) {
  const std::vector<TensorSpec> tensors(7, {"t", DType::kU8, {30}});
  ChunkPlan plan(tensors, AllMissing(tensors), 100, /*pack=*/true);
  std::vector<size_t> sizes;
  for (const PlannedChunk& chunk : Drain(plan)) sizes.push_back(1 + chunk.followed_by.size());
  EXPECT_EQ(sizes, (std::vector<size_t>{3, 3, 1}));
}

TEST(ChunkPlanTest, APackHasNoMoreNamesThanTheWireAllows) {
  const std::vector<TensorSpec> many(10000, {"t", DType::kU8, {1}});
  ChunkPlan plan(many, AllMissing(many), 2 << 20, /*pack=*/true);
  size_t tensors = 0;
  for (const PlannedChunk& chunk : Drain(plan)) {
    EXPECT_LE(chunk.followed_by.size(), kMaxFollowingTensors);
    tensors += 1 + chunk.followed_by.size();
  }
  EXPECT_EQ(tensors, many.size());
  EXPECT_EQ(plan.total_chunks(), 3u);

  const std::vector<TensorSpec> long_names(100, {std::string(4096, 'n'), DType::kU8, {1}});
  ChunkPlan long_plan(long_names, AllMissing(long_names), 2 << 20, /*pack=*/true);
  for (const PlannedChunk& chunk : Drain(long_plan)) {
    EXPECT_LE(chunk.followed_by.size() * 4096, kMaxFollowingNameBytes);
  }
}

TEST(ChunkPlanTest, EverythingIsEveryTensorThatHoldsBytesTheSmallOnesInTheOrderOfTheLayout) {
  const std::vector<TensorSpec> tensors = {{"z", DType::kU8, {30}},
                                           {"large", DType::kF32, {kKiB}},
                                           {"empty", DType::kF32, {0}},
                                           {"b", DType::kF32, {5}},
                                           {"a", DType::kU8, {70}}};
  const ManifestIndex index(tensors);
  ChunkPlan packed(index, 2 * kKiB, /*pack=*/true);
  EXPECT_EQ(packed.total_bytes(), 120 + 4 * kKiB);
  EXPECT_EQ(Drain(packed), (std::vector<PlannedChunk>{
                               {1, {0, 2 * kKiB}}, {1, {2 * kKiB, 4 * kKiB}}, {3, {0, 20}, /*followed_by=*/{4, 0}}}));
  ChunkPlan apart(index, 2 * kKiB, /*pack=*/false);
  EXPECT_EQ(apart.total_bytes(), 120 + 4 * kKiB);
  EXPECT_EQ(Drain(apart),
            (std::vector<PlannedChunk>{
                {0, {0, 30}}, {1, {0, 2 * kKiB}}, {1, {2 * kKiB, 4 * kKiB}}, {3, {0, 20}}, {4, {0, 70}}}));
}

TEST(ChunkPlanTest, OnlyWhatIsMissingWholeIsPacked) {
  const std::vector<TensorSpec> tensors(3, {"t", DType::kU8, {30}});
  ChunkPlan plan(tensors, {{0, {{0, 30}}}, {1, {{0, 29}}}, {2, {{0, 10}, {10, 30}}}}, 100, /*pack=*/true);
  EXPECT_EQ(Drain(plan), (std::vector<PlannedChunk>{{1, {0, 29}}, {2, {0, 10}}, {2, {10, 30}}, {0, {0, 30}}}));
}

TEST(ChunkPlanTest, WithoutPackingEachChunkIsOfOneTensor) {
  const std::vector<TensorSpec> tensors(3, {"t", DType::kU8, {30}});
  ChunkPlan plan(tensors, AllMissing(tensors), 100, /*pack=*/false);
  EXPECT_EQ(Drain(plan), (std::vector<PlannedChunk>{{0, {0, 30}}, {1, {0, 30}}, {2, {0, 30}}}));
}

TEST(ChunkPlanTest, ThreadsNeverGetTheSameChunk) {
  const TensorSpec spec{"t", DType::kU8, {100000}};
  ChunkPlan plan({spec}, {{0, {{0, 100000}}}}, 7, /*pack=*/false);
  absl::Mutex mutex;
  ByteRangeSet seen;
  uint64_t bytes = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (const absl::optional<PlannedChunk> chunk = plan.Next()) {
        absl::MutexLock lock(&mutex);
        bytes += seen.Add(chunk->range);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bytes, 100000u);
  EXPECT_TRUE(seen.Contains({0, 100000}));
}

}  // namespace
}  // namespace weightstream
