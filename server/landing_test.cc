#include "server/landing.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "kernels/faulty_device.h"
#include "kernels/host_device.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kBytes = 10'000;
constexpr uint64_t kSlotBytes = 4096;

// The same promises for the host, and for a device that needs staging and copies later.
class LandingTest : public testing::TestWithParam<bool> {
 protected:
  LandingTest() { NewUpdate({ByteTensor("before", 100), ByteTensor("t", kBytes)}); }

  void NewUpdate(const std::vector<TensorSpec>& tensors) {
    update_ = DeviceUpdate(device_, tensors);
    tensor_ = *update_->FindTensor("t");
  }

  std::unique_ptr<ChunkLander> NewLander(absl::Duration copy_wait = absl::Seconds(30)) {
    return std::make_unique<ChunkLander>(device_, staging_.get(), update_, copy_wait, [] { return false; });
  }

  CheckedChunk Chunk(uint64_t begin, absl::string_view data) const {
    return {{{tensor_, {begin, begin + data.size()}}}, data.size(), ExtendCrc32c(0, data)};
  }

  // Lands one chunk in one piece, on a stream of its own, to the end.
  absl::Status LandOne(uint64_t begin, absl::string_view data) { return LandOne(Chunk(begin, data), data); }
  absl::Status LandOne(const CheckedChunk& chunk, absl::string_view data) {
    const auto lander = NewLander();
    absl::Status status = lander->Land(chunk, {data});
    status.Update(lander->Finish());
    return status;
  }

  std::string Read(ByteRange range) {
    std::string bytes(range.size(), '\0');
    const uint64_t start = update_->layout().tensors[tensor_].range.begin;
    EXPECT_TRUE(device_.ReadTarget(update_->target(), {start + range.begin, start + range.end}, bytes.data()).ok());
    return bytes;
  }

  ByteRanges Missing() const {
    for (const auto& missing : update_->ranges().Missing()) {
      if (missing.tensor == tensor_) return missing.ranges;
    }
    return {};
  }

  void ExpectNoSlotHeld() const {
    if (staging_ == nullptr) return;
    EXPECT_TRUE(WaitFor([&] { return staging_->stats().slots_in_use == 0; }));
  }

  static HostDeviceOptions Options() {
    HostDeviceOptions options;
    options.device_like = GetParam();
    return options;
  }

  FaultyDevice device_{NewHostDevice(Options())};
  std::unique_ptr<StagingRing> staging_ =
      GetParam() ? StagingRing::Create(device_, 2 * kSlotBytes, kSlotBytes).value() : nullptr;
  std::shared_ptr<Update> update_;
  uint32_t tensor_ = 0;
  const std::string data_ = PatternBytes(1, kBytes);
};

INSTANTIATE_TEST_SUITE_P(Devices, LandingTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "DeviceLike" : "Host"; });

TEST_P(LandingTest, PiecesOfAnySizeLandBitForBit) {
  std::mt19937 random(3);
  const auto lander = NewLander();
  for (uint64_t begin = 0; begin < kBytes;) {
    const uint64_t size = std::min<uint64_t>({kBytes - begin, kSlotBytes, 1 + random() % 3000});
    const absl::string_view data = absl::string_view(data_).substr(begin, size);
    std::vector<absl::string_view> pieces;
    for (absl::string_view rest = data; !rest.empty(); rest.remove_prefix(pieces.back().size())) {
      pieces.push_back(rest.substr(0, 1 + random() % 700));
    }
    ASSERT_TRUE(lander->Land(Chunk(begin, data), pieces).ok());
    begin += size;
  }
  ASSERT_TRUE(lander->Finish().ok());
  EXPECT_EQ(Read({0, kBytes}), data_);
  EXPECT_THAT(Missing(), IsEmpty());
  EXPECT_EQ(update_->ranges().missing_bytes(), 100u) << "the other tensor";
  ExpectNoSlotHeld();
}

// ---- Packed chunks ----

class PackedLandingTest : public LandingTest {
 protected:
  PackedLandingTest() {
    NewUpdate({ByteTensor("a", 10), ByteTensor("b", 20), ByteTensor("empty", 0), ByteTensor("t", 30)});
  }

  // A chunk with these parts, by name and range, whose payload is what `whole` has of each.
  struct Part {
    std::string name;
    ByteRange range;
  };
  absl::Status LandParts(const std::vector<Part>& parts, uint32_t crc_error = 0) {
    CheckedChunk chunk;
    std::string payload;
    for (const Part& part : parts) {
      const uint32_t tensor = *update_->FindTensor(part.name);
      chunk.parts.push_back({tensor, part.range});
      payload += absl::StrCat(
          whole_.substr(update_->layout().tensors[tensor].range.begin + part.range.begin, part.range.size()));
    }
    chunk.bytes = payload.size();
    chunk.crc32c = ExtendCrc32c(0, payload) ^ crc_error;
    return LandOne(chunk, payload);
  }

  std::string ReadAll() {
    std::string bytes(whole_.size(), '\0');
    EXPECT_TRUE(device_.ReadTarget(update_->target(), {0, whole_.size()}, bytes.data()).ok());
    return bytes;
  }

  // The version's data, as they lie in the target.
  const std::string whole_ = PatternBytes(5, 60);
};

INSTANTIATE_TEST_SUITE_P(Devices, PackedLandingTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "DeviceLike" : "Host"; });

TEST_P(PackedLandingTest, TensorsThatLieTogetherTakeOneCopy) {
  ASSERT_TRUE(LandParts({{"a", {0, 10}}, {"b", {0, 20}}, {"empty", {0, 0}}, {"t", {0, 30}}}).ok());
  EXPECT_EQ(ReadAll(), whole_);
  EXPECT_EQ(update_->ranges().missing_bytes(), 0u);
  EXPECT_EQ(device_.Calls(DeviceCall::Kind::kCopyToTarget), GetParam() ? 1u : 0u);
  ExpectNoSlotHeld();
}

TEST_P(PackedLandingTest, InAnyOrderEachComesToItsPlace) {
  ASSERT_TRUE(LandParts({{"t", {7, 30}}, {"a", {0, 10}}, {"b", {0, 20}}, {"t", {0, 30}}}).ok());
  EXPECT_EQ(ReadAll(), whole_);
  EXPECT_EQ(update_->ranges().missing_bytes(), 0u);
}

TEST_P(PackedLandingTest, OneTensorTwiceBehindItselfComesToItsPlace) {
  ASSERT_TRUE(LandParts({{"t", {7, 30}}, {"t", {0, 30}}, {"t", {0, 30}}}).ok());
  EXPECT_EQ(ReadAll().substr(30), whole_.substr(30));
  EXPECT_EQ(update_->ranges().missing_bytes(), 30u);
}

TEST_P(PackedLandingTest, WhatHasLandedIsNotWrittenAgain) {
  ASSERT_TRUE(LandParts({{"b", {5, 10}}}).ok());
  ASSERT_TRUE(LandParts({{"a", {4, 10}}, {"b", {0, 20}}}).ok());
  EXPECT_EQ(ReadAll().substr(4, 26), whole_.substr(4, 26));
  EXPECT_EQ(update_->ranges().missing_bytes(), 34u);
}

TEST_P(PackedLandingTest, AWrongChecksumLeavesAllOfThemMissing) {
  ExpectError(LandParts({{"a", {2, 10}}, {"b", {0, 20}}}, 1), StatusCode::kDataLoss,
              {"'a' and 1 that follow it", "offset 2", "28 bytes"});
  EXPECT_EQ(update_->ranges().missing_bytes(), 60u);
  ASSERT_TRUE(LandParts({{"a", {0, 10}}, {"b", {0, 20}}, {"t", {0, 30}}}).ok());
  EXPECT_EQ(ReadAll(), whole_);
}

using PackedStagedLandingTest = PackedLandingTest;

INSTANTIATE_TEST_SUITE_P(Devices, PackedStagedLandingTest, testing::Values(true),
                         [](const auto& info) { return "DeviceLike"; });

TEST_P(PackedStagedLandingTest, ACopyThatFailsLeavesItsRunMissingOnly) {
  // In two runs, since they are not in the layout's order.
  device_.SetRule(FailCalls(DeviceCall::Kind::kCopyToTarget, 1, 1, absl::InternalError("ECC")));
  ExpectError(LandParts({{"t", {0, 30}}, {"a", {0, 10}}}), StatusCode::kInternal, {"ECC"});
  EXPECT_EQ(update_->ranges().landed_bytes(), 30u);
  ExpectNoSlotHeld();
}

TEST_P(LandingTest, WrongChecksumLeavesTheRangeMissingAndAResendHealsIt) {
  const std::string part = data_.substr(500, 1000);
  CheckedChunk wrong = Chunk(500, part);
  wrong.crc32c ^= 1;
  ExpectError(LandOne(wrong, part), StatusCode::kDataLoss,
              {"'t' at offset 500, 1000 bytes", "CRC32C", "stays missing", "send it again"});
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, kBytes}));
  EXPECT_EQ(update_->ranges().landed_bytes(), 0u);
  ExpectNoSlotHeld();
  EXPECT_TRUE(LandOne(500, part).ok());
  EXPECT_EQ(Read({500, 1500}), part);
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, 500}, ByteRange{1500, kBytes}));
}

TEST_P(LandingTest, DuplicatesNeverTouchLandedBytes) {
  ASSERT_TRUE(LandOne(1000, data_.substr(1000, 1000)).ok());
  const std::string corrupt(1000, 'X');
  EXPECT_TRUE(LandOne(1000, corrupt).ok()) << "its checksum is right, it only comes too late";
  CheckedChunk lying = Chunk(1000, data_.substr(1000, 1000));
  ExpectError(LandOne(lying, corrupt), StatusCode::kDataLoss, {"CRC32C"});
  EXPECT_EQ(Read({1000, 2000}), data_.substr(1000, 1000));
  EXPECT_EQ(update_->ranges().landed_bytes(), 1000u);
}

TEST_P(LandingTest, OverlapsBringOnlyWhatIsMissing) {
  ASSERT_TRUE(LandOne(1000, data_.substr(1000, 500)).ok());
  ASSERT_TRUE(LandOne(2000, data_.substr(2000, 500)).ok());
  // Covers both and the gap, with other bytes where it overlaps: those must not arrive.
  std::string over = data_.substr(900, 1700);
  for (uint64_t i = 100; i < 600; ++i) over[i] = 'X';
  for (uint64_t i = 1100; i < 1600; ++i) over[i] = 'Y';
  ASSERT_TRUE(LandOne(900, over).ok());
  EXPECT_EQ(Read({900, 2600}), data_.substr(900, 1700));
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, 900}, ByteRange{2600, kBytes}));
}

TEST_P(LandingTest, OverlapWithAWrongChecksumLeavesTheGapMissing) {
  ASSERT_TRUE(LandOne(1000, data_.substr(1000, 500)).ok());
  CheckedChunk wrong = Chunk(800, data_.substr(800, 1000));
  wrong.crc32c ^= 1;
  ExpectError(LandOne(wrong, data_.substr(800, 1000)), StatusCode::kDataLoss, {"offset 800"});
  EXPECT_EQ(Read({1000, 1500}), data_.substr(1000, 500));
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, 1000}, ByteRange{1500, kBytes}));
}

TEST_P(LandingTest, AnEmptyChunkLandsNothing) {
  EXPECT_TRUE(LandOne(0, "").ok());
  EXPECT_TRUE(LandOne(kBytes, "").ok());
  CheckedChunk wrong = Chunk(0, "");
  wrong.crc32c = 5;
  ExpectError(LandOne(wrong, ""), StatusCode::kDataLoss, {"0 bytes"});
  EXPECT_EQ(update_->ranges().landed_bytes(), 0u);
}

TEST_P(LandingTest, StreamsThatBringTheSameRangesAtOnceAgree) {
  constexpr int kStreams = 4;
  constexpr uint64_t kChunk = 333;
  std::vector<std::thread> streams;
  std::atomic<int> failures{0};
  for (int stream = 0; stream < kStreams; ++stream) {
    streams.emplace_back([&] {
      const auto lander = NewLander();
      absl::Status status;
      for (uint64_t begin = 0; begin < kBytes && status.ok(); begin += kChunk) {
        const absl::string_view data = absl::string_view(data_).substr(begin, kChunk);
        status = lander->Land(Chunk(begin, data), {data});
      }
      status.Update(lander->Finish());
      if (!status.ok()) ++failures;
    });
  }
  for (std::thread& stream : streams) stream.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(Read({0, kBytes}), data_);
  EXPECT_THAT(Missing(), IsEmpty());
  EXPECT_EQ(update_->ranges().landed_bytes(), kBytes) << "no byte counted twice";
}

TEST_P(LandingTest, AFailedPrepareIsToldAndTheRangeMissingAgain) {
  device_.SetRule(FailCalls(DeviceCall::Kind::kPrepare, 1, 1, absl::ResourceExhaustedError("disk is full")));
  EXPECT_TRUE(LandOne(0, data_.substr(0, 100)).ok());
  ExpectError(LandOne(100, data_.substr(100, 100)), StatusCode::kResourceExhausted, {"disk is full"});
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{100, kBytes}));
  ExpectNoSlotHeld();
  EXPECT_TRUE(LandOne(100, data_.substr(100, 100)).ok()) << "room may come free";
  EXPECT_EQ(Read({0, 200}), data_.substr(0, 200));
}

TEST_P(LandingTest, AnEndedUpdateTakesNothing) {
  update_->Abort("superseded");
  ExpectError(LandOne(0, data_.substr(0, 100)), StatusCode::kAborted, {"superseded"});
  EXPECT_EQ(Read({0, 100}), std::string(100, '\0'));
}

// What follows is about copies that complete later.
class StagedLandingTest : public LandingTest {};

INSTANTIATE_TEST_SUITE_P(Devices, StagedLandingTest, testing::Values(true),
                         [](const auto& info) { return "DeviceLike"; });

TEST_P(StagedLandingTest, AFailedCopyIsToldAndItsRangeMissingAgain) {
  device_.SetRule(FailCalls(DeviceCall::Kind::kCopyToTarget, 1, 1, absl::InternalError("ECC error")));
  const auto lander = NewLander();
  absl::Status status;
  for (uint64_t begin = 0; begin < 3000; begin += 1000) {
    const std::string part = data_.substr(begin, 1000);
    status.Update(lander->Land(Chunk(begin, part), {part}));
  }
  status.Update(lander->Finish());
  ExpectError(status, StatusCode::kInternal, {"ECC error"});
  EXPECT_GE(Missing().size(), 1u);
  EXPECT_EQ(Missing()[0].begin, 1000u);
  ExpectNoSlotHeld();
  EXPECT_TRUE(LandOne(1000, data_.substr(1000, 1000)).ok()) << "a new stream heals it";
  EXPECT_EQ(Read({0, 2000}), data_.substr(0, 2000));
}

TEST_P(StagedLandingTest, AStreamEndsAtTheFirstChunkAfterAFailedCopy) {
  device_.SetRule(FailCalls(DeviceCall::Kind::kCopyToTarget, 0, 1000, absl::InternalError("ECC error")));
  const auto lander = NewLander();
  absl::Status status;
  EXPECT_TRUE(WaitFor([&] {
    status = lander->Land(Chunk(0, data_.substr(0, 10)), {absl::string_view(data_).substr(0, 10)});
    return !status.ok();
  }));
  ExpectError(status, StatusCode::kInternal, {"ECC error"});
  EXPECT_FALSE(lander->Finish().ok());
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, kBytes}));
}

TEST_P(StagedLandingTest, StreamsThatShareTooFewSlotsAllComeThrough) {
  // Four streams, two slots, each chunk a copy: all must wait for each other and come through.
  constexpr int kStreams = 4;
  constexpr uint64_t kPart = kBytes / kStreams;
  std::vector<std::thread> streams;
  std::atomic<int> failures{0};
  for (int stream = 0; stream < kStreams; ++stream) {
    streams.emplace_back([&, stream] {
      const auto lander = NewLander();
      absl::Status status;
      for (uint64_t begin = stream * kPart; begin < (stream + 1) * kPart && status.ok(); begin += 50) {
        const absl::string_view data = absl::string_view(data_).substr(begin, 50);
        status = lander->Land(Chunk(begin, data), {data});
      }
      status.Update(lander->Finish());
      if (!status.ok()) ++failures;
    });
  }
  for (std::thread& stream : streams) stream.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(Read({0, kBytes}), data_);
  ExpectNoSlotHeld();
}

// Copies that a test lets go when it likes.
class HeldDevice final : public Device {
 public:
  explicit HeldDevice(Device& device) : device_(device) {}

  std::string name() const override { return "held"; }
  bool needs_staging() const override { return true; }
  bool keeps_files() const override { return true; }
  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override {
    return device_.CreateTarget(spec);
  }
  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override {
    return device_.AllocatePinned(bytes);
  }
  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    held_.emplace_back([this, staged, &target, offset, done = std::move(done)]() mutable {
      device_.CopyToTarget(staged, target, offset, std::move(done));
    });
  }
  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override {
    return device_.ReadTarget(target, range, destination);
  }
  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override {
    return device_.DigestTarget(target, range, block_bytes);
  }
  absl::Status Health() const override { return absl::OkStatus(); }

  size_t held() const { return held_.size(); }
  void LetGo() {
    for (auto& copy : std::exchange(held_, {})) copy();
  }

 private:
  Device& device_;
  std::vector<std::function<void()>> held_;
};

class HeldLandingTest : public LandingTest {
 protected:
  std::unique_ptr<ChunkLander> HeldLander(absl::Duration copy_wait, std::function<bool()> cancelled = {}) {
    return std::make_unique<ChunkLander>(held_, staging_.get(), update_, copy_wait, std::move(cancelled));
  }

  HeldDevice held_{device_};
};

INSTANTIATE_TEST_SUITE_P(Devices, HeldLandingTest, testing::Values(true),
                         [](const auto& info) { return "DeviceLike"; });

TEST_P(HeldLandingTest, StagedIsNotLandedBeforeTheCopyIsDone) {
  const auto lander = HeldLander(absl::Seconds(30));
  ASSERT_TRUE(lander->Land(Chunk(0, data_.substr(0, 100)), {absl::string_view(data_).substr(0, 100)}).ok());
  EXPECT_EQ(update_->ranges().landed_bytes(), 0u);
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{0, kBytes}));
  held_.LetGo();
  EXPECT_TRUE(lander->Finish().ok());
  EXPECT_EQ(update_->ranges().landed_bytes(), 100u);
  EXPECT_EQ(Read({0, 100}), data_.substr(0, 100));
}

TEST_P(HeldLandingTest, NoFreeSlotIsAnErrorInTimeAndTheRangeMissingAgain) {
  const auto lander = HeldLander(absl::Milliseconds(20));
  const absl::string_view data = data_;
  ASSERT_TRUE(lander->Land(Chunk(0, data.substr(0, 10)), {data.substr(0, 10)}).ok());
  ASSERT_TRUE(lander->Land(Chunk(10, data.substr(10, 10)), {data.substr(10, 10)}).ok());
  ExpectError(lander->Land(Chunk(20, data.substr(20, 10)), {data.substr(20, 10)}), StatusCode::kDeadlineExceeded,
              {"no staging slot"});
  EXPECT_EQ(held_.held(), 2u);
  held_.LetGo();
  EXPECT_TRUE(lander->Finish().ok());
  EXPECT_THAT(Missing(), ElementsAre(ByteRange{20, kBytes}));
  ExpectNoSlotHeld();
}

TEST_P(HeldLandingTest, AWaitForASlotEndsWhenTheCallIsCancelled) {
  std::atomic<bool> cancelled{false};
  const auto lander = HeldLander(absl::Hours(1), [&] { return cancelled.load(); });
  const absl::string_view data = data_;
  for (uint64_t at : {0, 10}) ASSERT_TRUE(lander->Land(Chunk(at, data.substr(at, 10)), {data.substr(at, 10)}).ok());
  std::thread canceller([&] { cancelled = true; });
  ExpectError(lander->Land(Chunk(20, data.substr(20, 10)), {data.substr(20, 10)}), StatusCode::kCancelled, {});
  canceller.join();
  held_.LetGo();
  EXPECT_TRUE(lander->Finish().ok());
}

TEST_P(HeldLandingTest, AStuckDeviceIsAnErrorInTimeAndDoesNoHarmLater) {
  {
    const auto lander = HeldLander(absl::Milliseconds(20));
    ASSERT_TRUE(lander->Land(Chunk(0, data_.substr(0, 100)), {absl::string_view(data_).substr(0, 100)}).ok());
    ExpectError(lander->Finish(), StatusCode::kDeadlineExceeded, {"held", "1 copies", "still missing"});
  }
  // The lander is gone; the copies own what they need.
  held_.LetGo();
  EXPECT_TRUE(WaitFor([&] { return update_->ranges().landed_bytes() == 100; }));
  EXPECT_EQ(Read({0, 100}), data_.substr(0, 100));
  ExpectNoSlotHeld();
}

}  // namespace
}  // namespace weightstream
