// What every backend promises, whatever it is made of.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "kernels/device.h"
#include "kernels/device_testing.h"
#include "kernels/staging.h"

namespace weightstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class DeviceContractTest : public testing::TestWithParam<DeviceBackend> {
 protected:
  void SetUp() override {
    if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
    device_ = GetParam().make();
  }

  bool has_files() const { return !GetParam().folder.empty(); }

  // A target of so many bytes, in a file of its own where the backend has files.
  std::unique_ptr<Target> MakeTarget(uint64_t bytes, uint64_t start_in_file = 8192) {
    TargetSpec spec{.bytes = bytes};
    if (has_files()) {
      files_.push_back(std::make_unique<TargetFile>(GetParam().folder));
      spec.path = files_.back()->path();
      spec.start_in_file = start_in_file;
    }
    absl::StatusOr<std::unique_ptr<Target>> target = device_->CreateTarget(spec);
    EXPECT_TRUE(target.ok()) << target.status();
    return target.ok() ? *std::move(target) : nullptr;
  }

  std::unique_ptr<Target> MakePreparedTarget(uint64_t bytes) {
    std::unique_ptr<Target> target = MakeTarget(bytes);
    EXPECT_EQ(target->Prepare({0, bytes}), absl::OkStatus());
    return target;
  }

  std::unique_ptr<PinnedMemory> MakePinned(const std::string& bytes) {
    absl::StatusOr<std::unique_ptr<PinnedMemory>> memory = device_->AllocatePinned(bytes.size());
    EXPECT_TRUE(memory.ok()) << memory.status();
    std::memcpy((*memory)->data(), bytes.data(), bytes.size());
    return *std::move(memory);
  }

  std::string ReadAll(Target& target) {
    std::string bytes(target.bytes(), '?');
    EXPECT_EQ(device_->ReadTarget(target, {0, target.bytes()}, bytes.data()), absl::OkStatus());
    return bytes;
  }

  absl::Status Copy(absl::string_view staged, Target& target, uint64_t offset) {
    CopyResults results;
    device_->CopyToTarget(staged, target, offset, results.Expect());
    return results.Wait();
  }

  std::vector<std::unique_ptr<TargetFile>> files_;
  std::unique_ptr<Device> device_;
};

// Ranges of random sizes that cover [0, bytes), in random order.
ByteRanges ShuffledPieces(uint64_t bytes, uint64_t most_bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  ByteRanges pieces;
  for (uint64_t begin = 0; begin < bytes;) {
    const uint64_t end = std::min(bytes, begin + 1 + random() % most_bytes);
    pieces.push_back({begin, end});
    begin = end;
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  return pieces;
}

TEST_P(DeviceContractTest, CopiesLandWhereTheyBelongInAnyOrder) {
  const std::string bytes = RandomBytes(40 * kMiB + 13, 1);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakeTarget(bytes.size());
  CopyResults results;
  for (const ByteRange& piece : ShuffledPieces(bytes.size(), kMiB, 2)) {
    ASSERT_EQ(target->Prepare(piece), absl::OkStatus());
    device_->CopyToTarget({staged->data() + piece.begin, piece.size()}, *target, piece.begin, results.Expect());
  }
  ASSERT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_TRUE(ReadAll(*target) == bytes);
}

TEST_P(DeviceContractTest, EveryCopyIsDoneExactlyOnce) {
  constexpr int kCopies = 500;
  const std::string bytes = RandomBytes(kCopies * 100, 3);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  CopyResults results;
  for (int copy = 0; copy < kCopies; ++copy) {
    device_->CopyToTarget({staged->data() + copy * 100, 100}, *target, copy * 100, results.Expect());
  }
  EXPECT_EQ(results.Wait(), absl::OkStatus());
  staged.reset();
  target.reset();
  device_.reset();
  // A second call would have come by now: the device has ended.
  EXPECT_EQ(results.calls(), std::vector<int>(kCopies, 1));
}

TEST_P(DeviceContractTest, DoneMeansVisibleToReadTarget) {
  constexpr uint64_t kBytes = 70'001;
  std::unique_ptr<Target> target = MakePreparedTarget(kBytes);
  for (uint64_t round = 0; round < 50; ++round) {
    const std::string bytes = RandomBytes(kBytes, round);
    std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
    ASSERT_EQ(Copy({staged->data(), kBytes}, *target, 0), absl::OkStatus());
    ASSERT_TRUE(ReadAll(*target) == bytes) << "round " << round;
  }
}

TEST_P(DeviceContractTest, CopyTouchesNothingBesideItsRange) {
  const std::string before = RandomBytes(20'000, 4);
  const std::string piece = RandomBytes(5'000, 5);
  std::unique_ptr<PinnedMemory> staged_before = MakePinned(before);
  std::unique_ptr<PinnedMemory> staged_piece = MakePinned(piece);
  std::unique_ptr<Target> target = MakePreparedTarget(before.size());
  for (const auto& [offset, from, size] : {std::tuple(1, 0, 1), std::tuple(4095, 3, 2), std::tuple(8191, 1, 4097),
                                           std::tuple(19'999, 7, 1), std::tuple(15'000, 0, 5'000)}) {
    ASSERT_EQ(Copy({staged_before->data(), before.size()}, *target, 0), absl::OkStatus());
    ASSERT_EQ(Copy({staged_piece->data() + from, static_cast<size_t>(size)}, *target, offset), absl::OkStatus());
    std::string expected = before;
    expected.replace(offset, size, piece, from, size);
    EXPECT_TRUE(ReadAll(*target) == expected) << size << " bytes at " << offset;
  }
}

TEST_P(DeviceContractTest, ReadTargetReadsExactlyTheRange) {
  const std::string bytes = RandomBytes(10'000, 6);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  ASSERT_EQ(Copy({staged->data(), bytes.size()}, *target, 0), absl::OkStatus());
  std::string part(102, '#');
  ASSERT_EQ(device_->ReadTarget(*target, {4001, 4101}, part.data() + 1), absl::OkStatus());
  EXPECT_TRUE(part == "#" + bytes.substr(4001, 100) + "#");
}

TEST_P(DeviceContractTest, DigestsAreTheChecksumsOfTheBlocksWhereTheyLie) {
  constexpr uint64_t kBlock = 3 * kDigestBlockMultiple;
  const std::string bytes = RandomBytes(4 * kBlock + 12'345, 13);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  ASSERT_EQ(Copy({staged->data(), bytes.size()}, *target, 0), absl::OkStatus());
  const uint64_t all = bytes.size();
  for (const ByteRange& range : ByteRanges{{0, all},
                                           {0, kBlock},
                                           {1, kBlock + 1},
                                           {4'097, all - 1},
                                           {kBlock - 3, kBlock + 2},
                                           {all - 1, all},
                                           {7, 7}}) {
    std::vector<uint32_t> expected;
    for (uint64_t at = range.begin; at < range.end; at += kBlock) {
      expected.push_back(
          ExtendCrc32c(0, absl::string_view(bytes).substr(at, std::min<uint64_t>(kBlock, range.end - at))));
    }
    const auto digests = device_->DigestTarget(*target, range, kBlock);
    ASSERT_TRUE(digests.ok()) << digests.status();
    EXPECT_EQ(*digests, expected) << range.begin << " to " << range.end;
  }
  EXPECT_EQ(device_->DigestTarget(*target, {0, all + 1}, kBlock).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(device_->DigestTarget(*target, {0, all}, 0).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(device_->DigestTarget(*target, {0, all}, 1'000).status().code(), absl::StatusCode::kInternal);
}

TEST_P(DeviceContractTest, TargetsAndCopiesMayBeEmpty) {
  std::unique_ptr<Target> empty = MakePreparedTarget(0);
  EXPECT_EQ(empty->bytes(), 0u);
  EXPECT_EQ(Copy({}, *empty, 0), absl::OkStatus());
  EXPECT_EQ(empty->Sync(), absl::OkStatus());
  EXPECT_EQ(device_->ReadTarget(*empty, {0, 0}, nullptr), absl::OkStatus());

  std::unique_ptr<Target> target = MakeTarget(100);
  EXPECT_EQ(target->Prepare({50, 50}), absl::OkStatus());
  EXPECT_EQ(Copy({}, *target, 100), absl::OkStatus());
}

TEST_P(DeviceContractTest, ManyThreadsCopyAtOnce) {
  constexpr int kThreads = 8;
  constexpr uint64_t kBytesEach = 5 * kMiB + 1;
  const std::string bytes = RandomBytes(kThreads * kBytesEach, 7);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakeTarget(bytes.size());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      CopyResults results;
      for (const ByteRange& piece : ShuffledPieces(kBytesEach, kMiB / 4, thread)) {
        const uint64_t begin = thread * kBytesEach + piece.begin;
        EXPECT_EQ(target->Prepare({begin, begin + piece.size()}), absl::OkStatus());
        device_->CopyToTarget({staged->data() + begin, piece.size()}, *target, begin, results.Expect());
      }
      EXPECT_EQ(results.Wait(), absl::OkStatus());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(ReadAll(*target) == bytes);
}

TEST_P(DeviceContractTest, StagingSlotsAreReusedAfterDoneUnderPressure) {
  constexpr int kThreads = 4;
  constexpr uint64_t kChunk = 10'007;
  constexpr uint64_t kChunksEach = 100;
  const std::string bytes = RandomBytes(kThreads * kChunksEach * kChunk, 8);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  auto ring = StagingRing::Create(*device_, 3 * kChunk, kChunk);
  ASSERT_TRUE(ring.ok()) << ring.status();
  CopyResults results;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t chunk = thread * kChunksEach; chunk < (thread + 1) * kChunksEach; ++chunk) {
        auto slot = (*ring)->Acquire(absl::Minutes(1), nullptr);
        ASSERT_TRUE(slot.ok()) << slot.status();
        auto held = std::make_shared<StagingSlot>(*std::move(slot));
        std::memcpy(held->data(), bytes.data() + chunk * kChunk, kChunk);
        device_->CopyToTarget({held->data(), kChunk}, *target, chunk * kChunk,
                              [held, done = results.Expect()](absl::Status status) {
                                // Free before the copy counts as done, and overwritten by the next chunk at once.
                                *held = StagingSlot();
                                done(std::move(status));
                              });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_TRUE(ReadAll(*target) == bytes);
  EXPECT_EQ((*ring)->stats().slots_in_use, 0u);
}

TEST_P(DeviceContractTest, DoneMayStartAnotherCopy) {
  const std::string bytes = RandomBytes(1'000, 9);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  CopyResults results;
  device_->CopyToTarget({staged->data(), 500}, *target, 0,
                        [&, first = results.Expect(), second = results.Expect()](absl::Status status) {
                          device_->CopyToTarget({staged->data() + 500, 500}, *target, 500, second);
                          first(std::move(status));
                        });
  EXPECT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_TRUE(ReadAll(*target) == bytes);
}

TEST_P(DeviceContractTest, FloatsAreCastOnTheWayAsTheProcessorCastsThem) {
  const std::string source = RandomBytes(4'000, 21);
  std::unique_ptr<PinnedMemory> staged = MakePinned(source);
  for (const FloatCast cast : {FloatCast::kF32ToBf16, FloatCast::kF32ToF16, FloatCast::kBf16ToF32, FloatCast::kF16ToF32,
                               FloatCast::kBf16ToF16, FloatCast::kF16ToBf16}) {
    const uint64_t elements = source.size() / CastSourceBytes(cast);
    const uint64_t bytes = elements * CastDestinationBytes(cast);
    std::unique_ptr<Target> target = MakePreparedTarget(bytes + 8);
    CopyResults results;
    device_->CastToTarget(cast, {staged->data(), source.size()}, *target, 4, results.Expect());
    ASSERT_EQ(results.Wait(), absl::OkStatus());
    std::string expected(bytes, '\0');
    CastElements(cast, source.data(), expected.data(), elements);
    EXPECT_TRUE(ReadAll(*target).substr(4, bytes) == expected) << static_cast<int>(cast);
  }
  std::unique_ptr<Target> target = MakePreparedTarget(100);
  for (const auto& [size, offset] : {std::pair<uint64_t, uint64_t>{7, 0}, {8, 1}, {400, 0}}) {
    CopyResults refused;
    device_->CastToTarget(FloatCast::kF32ToF16, {staged->data(), size}, *target, offset, refused.Expect());
    EXPECT_EQ(refused.Wait().code(), absl::StatusCode::kInternal) << size << " bytes to " << offset;
  }
}

TEST_P(DeviceContractTest, RangesOutsideTheTargetAreReportedAndWriteNothing) {
  const std::string bytes = RandomBytes(1'000, 10);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  ASSERT_EQ(Copy({staged->data(), bytes.size()}, *target, 0), absl::OkStatus());
  for (const uint64_t offset : {uint64_t{1}, uint64_t{1'000}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 999}) {
    EXPECT_EQ(Copy({staged->data(), bytes.size()}, *target, offset).code(), absl::StatusCode::kInternal) << offset;
  }
  EXPECT_TRUE(ReadAll(*target) == bytes);
  EXPECT_EQ(target->Prepare({0, 1'001}).code(), absl::StatusCode::kInternal);
  char byte;
  EXPECT_EQ(device_->ReadTarget(*target, {1'000, 1'001}, &byte).code(), absl::StatusCode::kInternal);
}

TEST_P(DeviceContractTest, PinnedMemoryIsPageAlignedAndNeverNull) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{4'097}, 3 * kMiB}) {
    auto memory = device_->AllocatePinned(bytes);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ((*memory)->bytes(), bytes);
    ASSERT_NE((*memory)->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*memory)->data()) % 4096, 0u) << bytes;
    std::memset((*memory)->data(), 1, bytes);
  }
}

TEST_P(DeviceContractTest, MoreMemoryThanThereIsIsAnError) {
  for (const uint64_t bytes : {uint64_t{1} << 60, ~uint64_t{0}}) {
    EXPECT_EQ(device_->AllocatePinned(bytes).status().code(), absl::StatusCode::kResourceExhausted) << bytes;
  }
}

TEST_P(DeviceContractTest, WhatIsFreeFallsWithATargetAndRisesAgain) {
  constexpr uint64_t kBytes = 33 * kMiB + 1;
  EXPECT_GE(device_->TargetFootprint(kBytes), kBytes);
  const absl::StatusOr<uint64_t> before = device_->FreeBytes();
  if (has_files()) {
    EXPECT_EQ(before.status().code(), absl::StatusCode::kUnimplemented) << before.status();
    return;
  }
  ASSERT_TRUE(before.ok()) << before.status();
  ASSERT_GT(*before, device_->TargetFootprint(kBytes));
  std::unique_ptr<Target> target = MakeTarget(kBytes);
  // A driver may take more than was asked for.
  const uint64_t during = device_->FreeBytes().value();
  EXPECT_LE(during, *before - kBytes);
  target.reset();
  EXPECT_GE(device_->FreeBytes().value(), during + kBytes);
  EXPECT_EQ(device_->CreateTarget({.bytes = *before + 1}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GE(device_->FreeBytes().value(), during + kBytes) << "what was refused took nothing";
}

TEST_P(DeviceContractTest, HostDataIsThereExactlyWhereNoStagingIsNeeded) {
  const std::string bytes = RandomBytes(100'000, 11);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  ASSERT_EQ(target->host_data() == nullptr, device_->needs_staging());
  if (target->host_data() == nullptr) return;
  std::memcpy(target->host_data(), bytes.data(), bytes.size());
  EXPECT_TRUE(ReadAll(*target) == bytes);
}

TEST_P(DeviceContractTest, PrepareMayBeRepeatedAndKeepsWhatLanded) {
  const std::string bytes = RandomBytes(34 * kMiB, 12);
  std::unique_ptr<PinnedMemory> staged = MakePinned(bytes);
  std::unique_ptr<Target> target = MakePreparedTarget(bytes.size());
  ASSERT_EQ(Copy({staged->data(), bytes.size()}, *target, 0), absl::OkStatus());
  EXPECT_EQ(target->Prepare({0, bytes.size()}), absl::OkStatus());
  EXPECT_EQ(target->Sync(), absl::OkStatus());
  EXPECT_TRUE(ReadAll(*target) == bytes);
}

TEST_P(DeviceContractTest, IsHealthyAndHasAName) {
  EXPECT_EQ(device_->Health(), absl::OkStatus());
  EXPECT_FALSE(device_->name().empty());
}

TEST_P(DeviceContractTest, UnusableSpecsGiveAnErrorThatNamesThePath) {
  if (!has_files()) GTEST_SKIP() << "this backend has no use for files";
  const TargetFile file(GetParam().folder);
  const std::string missing = file.path() + "-missing";
  const std::string link = file.path() + "-link";
  ASSERT_EQ(symlink(file.path().c_str(), link.c_str()), 0);
  struct Case {
    TargetSpec spec;
    absl::StatusCode code;
  };
  const uint64_t most = ~uint64_t{0};
  for (const Case& bad : std::vector<Case>{
           {{.bytes = 1, .path = missing}, absl::StatusCode::kNotFound},
           {{.bytes = 1, .path = GetParam().folder}, absl::StatusCode::kInvalidArgument},
           {{.bytes = 1, .path = link}, absl::StatusCode::kInvalidArgument},
           {{.bytes = 1, .path = "/dev/null"}, absl::StatusCode::kInvalidArgument},
           {{.bytes = 1, .path = file.path(), .start_in_file = 100}, absl::StatusCode::kInvalidArgument},
           {{.bytes = most, .path = file.path(), .start_in_file = 4096}, absl::StatusCode::kInvalidArgument},
           {{.bytes = 1, .path = file.path(), .start_in_file = most - 4095}, absl::StatusCode::kInvalidArgument},
       }) {
    absl::StatusOr<std::unique_ptr<Target>> target = device_->CreateTarget(bad.spec);
    EXPECT_EQ(target.status().code(), bad.code) << bad.spec.path << ": " << target.status();
    EXPECT_NE(target.status().message().find(bad.spec.path), absl::string_view::npos) << target.status();
  }
  unlink(link.c_str());
}

INSTANTIATE_TEST_SUITE_P(Backends, DeviceContractTest, testing::ValuesIn(DeviceBackends()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weightstream
