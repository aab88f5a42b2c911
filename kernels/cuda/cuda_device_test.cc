// What CudaDevice promises beyond the contract that every device keeps: over a fake CUDA runtime.
#include "kernels/cuda/cuda_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/device_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::string OpenError(CudaRuntime* runtime, int index = 0) {
  CudaDeviceOptions options;
  options.index = index;
  const absl::Status status = CudaDevice::Open(runtime, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  return std::string(status.message());
}

std::string OpenErrorWith(const FakeCudaOptions& fake) {
  FakeCudaRuntime runtime(fake);
  const std::string error = OpenError(&runtime);
  EXPECT_EQ(runtime.live(), 0u);
  return error;
}

TEST(CudaOpenTest, WhatIsMissingIsSaidInWords) {
  EXPECT_TRUE(absl::StrContains(OpenError(nullptr), "built without CUDA"));
  EXPECT_TRUE(absl::StrContains(OpenErrorWith({.driver_version = 0}), "has no NVIDIA driver"));
  EXPECT_TRUE(absl::StrContains(OpenErrorWith({.driver_version = 12080}),
                                "driver is too old: it knows CUDA 12.8, and this binary was built with CUDA 13.0"));
  EXPECT_TRUE(absl::StrContains(OpenErrorWith({.devices = 0}), "sees no GPU"));
  EXPECT_TRUE(absl::StrContains(OpenErrorWith({.compute_major = 7}), "compute capability 7.0"));
  FakeCudaRuntime two({.devices = 2});
  for (const int index : {2, -1}) {
    const std::string error = OpenError(&two, index);
    EXPECT_TRUE(absl::StrContains(error, absl::StrCat("cuda:", index, " "))) << error;
    EXPECT_TRUE(absl::StrContains(error, "has 2, cuda:0 to cuda:1")) << error;
  }
}

TEST(CudaOpenTest, AnOlderDriverOfTheSameMajorReleaseIsGoodEnough) {
  FakeCudaRuntime runtime({.driver_version = 13000, .runtime_version = 13020});
  EXPECT_TRUE(CudaDevice::Open(&runtime, {}).ok());
}

class CudaDeviceTest : public testing::Test {
 protected:
  void Open(FakeCudaOptions fake = {}, CudaDeviceOptions options = {}) {
    runtime_ = std::make_unique<FakeCudaRuntime>(fake);
    auto device = CudaDevice::Open(runtime_.get(), options);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  // Each test ends without a leak and without having done what CUDA forbids.
  void TearDown() override {
    if (runtime_ == nullptr) return;
    staged_.clear();
    device_.reset();
    EXPECT_EQ(runtime_->live(), 0u);
    EXPECT_EQ(runtime_->misuse(), std::vector<std::string>());
  }

  std::unique_ptr<Target> MakeTarget(uint64_t bytes) { return device_->CreateTarget({.bytes = bytes}).value(); }

  absl::string_view Stage(const std::string& bytes) {
    staged_.push_back(device_->AllocatePinned(bytes.size()).value());
    std::memcpy(staged_.back()->data(), bytes.data(), bytes.size());
    return {staged_.back()->data(), bytes.size()};
  }

  std::string Read(Target& target, ByteRange range) {
    std::string bytes(range.size(), '?');
    EXPECT_EQ(device_->ReadTarget(target, range, bytes.data()), absl::OkStatus());
    return bytes;
  }

  // Waits until the runtime has had `count` calls of this name.
  testing::AssertionResult Saw(const std::string& call, uint64_t count) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (runtime_->calls()[call] < count) {
      if (absl::Now() > deadline) return testing::AssertionFailure() << "too few calls of " << call;
    }
    return testing::AssertionSuccess();
  }

  std::unique_ptr<FakeCudaRuntime> runtime_;
  std::unique_ptr<CudaDevice> device_;
  std::vector<std::unique_ptr<PinnedMemory>> staged_;
};

TEST_F(CudaDeviceTest, QueueingDoesNotWaitAndNothingIsDoneBeforeItsCopy) {
  Open();
  std::unique_ptr<Target> target = MakeTarget(1'000);
  const absl::string_view staged = Stage(RandomBytes(1'000, 1));
  runtime_->HoldStreams(true);
  CopyResults results;
  for (uint64_t i = 0; i < 10; ++i) {
    device_->CopyToTarget(staged.substr(i * 100, 100), *target, i * 100, results.Expect());
  }
  // The events were asked many times over, and none had come.
  ASSERT_TRUE(Saw("EventQuery", 20));
  EXPECT_EQ(results.calls(), std::vector<int>(10, 0));
  runtime_->HoldStreams(false);
  EXPECT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_TRUE(Read(*target, {0, 1'000}) == staged);
}

TEST_F(CudaDeviceTest, CopiesAreSpreadOverTheStreams) {
  Open({}, {.copy_streams = 3});
  // Three for copies and one for reading back.
  EXPECT_EQ(runtime_->calls()["StreamCreate"], 4u);
  std::unique_ptr<Target> target = MakeTarget(900);
  const absl::string_view staged = Stage(RandomBytes(900, 2));
  // A copy that fails when its turn comes would stop all behind it on its stream; here each stream has one.
  runtime_->HoldStreams(true);
  CopyResults results;
  for (uint64_t i = 0; i < 3; ++i) {
    device_->CopyToTarget(staged.substr(i * 300, 300), *target, i * 300, results.Expect());
  }
  // On one stream only the first would be asked for: the others' turns would not have come.
  EXPECT_TRUE(Saw("CopyToDevice!", 3));
  runtime_->HoldStreams(false);
  EXPECT_EQ(results.Wait(), absl::OkStatus());
}

TEST_F(CudaDeviceTest, EventsAreUsedAgain) {
  Open();
  std::unique_ptr<Target> target = MakeTarget(100);
  const absl::string_view staged = Stage(RandomBytes(100, 3));
  for (int i = 0; i < 50; ++i) {
    CopyResults results;
    device_->CopyToTarget(staged, *target, 0, results.Expect());
    ASSERT_EQ(results.Wait(), absl::OkStatus());
  }
  // One for each stream; by chance a second while the first is on its way back.
  EXPECT_LE(runtime_->calls()["EventCreate"], 4u);
}

TEST_F(CudaDeviceTest, TooLargeATargetSaysWhatWasAskedAndWhatIsFree) {
  Open({.device_bytes = 100 * kMiB});
  std::unique_ptr<Target> first = MakeTarget(60 * kMiB);
  const absl::Status full = device_->CreateTarget({.bytes = 50 * kMiB}).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  // 60 MiB for the first and one piece of 2 MiB for digests are gone.
  for (const std::string& part : {absl::StrCat("cuda:0: no ", 50 * kMiB, " bytes"),
                                  absl::StrCat(38 * kMiB, " of ", 100 * kMiB, " are free"), std::string("versions")}) {
    EXPECT_TRUE(absl::StrContains(full.message(), part)) << full;
  }
  EXPECT_EQ(device_->Health(), absl::OkStatus());
  first.reset();
  EXPECT_TRUE(device_->CreateTarget({.bytes = 50 * kMiB}).ok());
}

TEST_F(CudaDeviceTest, TooMuchPinnedMemorySaysWhichFlagToSet) {
  Open({.pinned_bytes = 10 * kMiB});
  const absl::Status full = device_->AllocatePinned(11 * kMiB).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(full.message(), "--staging-mib")) << full;
}

TEST_F(CudaDeviceTest, TargetsShareNoPieceOfTheDriversMemory) {
  Open();
  std::unique_ptr<Target> first = MakeTarget(1);
  std::unique_ptr<Target> second = MakeTarget(2 * kMiB + 1);
  // Whole pieces of 2 MiB: one, two, and one for digests.
  EXPECT_EQ(runtime_->live_device_bytes(), 8 * kMiB);
}

TEST_F(CudaDeviceTest, TargetsOfAnotherDeviceAreRefused) {
  Open({.devices = 2});
  auto other = CudaDevice::Open(runtime_.get(), {.index = 1});
  ASSERT_TRUE(other.ok()) << other.status();
  std::unique_ptr<Target> foreign = (*other)->CreateTarget({.bytes = 10}).value();
  CopyResults results;
  device_->CopyToTarget(Stage("0123456789"), *foreign, 0, results.Expect());
  EXPECT_EQ(results.Wait().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(device_->DigestTarget(*foreign, {0, 10}, kDigestBlockMultiple).status().code(),
            absl::StatusCode::kInternal);
  foreign.reset();
}

TEST_F(CudaDeviceTest, CastsLandAsTheOtherType) {
  Open({.latency = absl::Microseconds(50)});
  // More than the scratch memory holds, and not a multiple of it.
  const std::string source = RandomBytes(9 * kMiB + 4, 4);
  const absl::string_view staged = Stage(source);
  for (const FloatCast cast : {FloatCast::kF32ToBf16, FloatCast::kF32ToF16, FloatCast::kBf16ToF32, FloatCast::kF16ToF32,
                               FloatCast::kBf16ToF16, FloatCast::kF16ToBf16}) {
    const uint64_t elements = source.size() / CastSourceBytes(cast);
    const uint64_t bytes = elements * CastDestinationBytes(cast);
    std::string expected(bytes, '\0');
    CastElements(cast, source.data(), expected.data(), elements);
    const uint64_t more = 4 / CastSourceBytes(cast) * CastDestinationBytes(cast);
    std::unique_ptr<Target> target = MakeTarget(4 + bytes + more);
    CopyResults results;
    device_->CastToTarget(cast, staged, *target, 4, results.Expect());
    // Uses the same scratch memory, right behind it.
    device_->CastToTarget(cast, staged.substr(0, 4), *target, 4 + bytes, results.Expect());
    ASSERT_EQ(results.Wait(), absl::OkStatus());
    EXPECT_TRUE(Read(*target, {4, 4 + bytes}) == expected) << static_cast<int>(cast);
    EXPECT_EQ(Read(*target, {4 + bytes, 4 + bytes + more}), expected.substr(0, more)) << static_cast<int>(cast);
  }
}

TEST_F(CudaDeviceTest, CastsOfPartsOfElementsOrBeyondTheTargetAreRefused) {
  Open();
  std::unique_ptr<Target> target = MakeTarget(8);
  const absl::string_view staged = Stage(RandomBytes(100, 5));
  struct Case {
    uint64_t bytes;
    uint64_t offset;
  };
  for (const Case& bad : std::vector<Case>{{3, 0}, {4, 1}, {20, 0}, {4, 8}, {4, ~uint64_t{0} - 1}}) {
    CopyResults results;
    device_->CastToTarget(FloatCast::kF32ToBf16, staged.substr(0, bad.bytes), *target, bad.offset, results.Expect());
    EXPECT_EQ(results.Wait().code(), absl::StatusCode::kInternal) << bad.bytes << " bytes at " << bad.offset;
  }
}

TEST_F(CudaDeviceTest, DigestsOfMoreThanOneLaunchAreRight) {
  Open();
  constexpr uint64_t kBytes = 257 * kMiB + 5;
  const std::string bytes = RandomBytes(kBytes, 6);
  std::unique_ptr<Target> target = MakeTarget(kBytes);
  CopyResults results;
  device_->CopyToTarget(Stage(bytes), *target, 0, results.Expect());
  ASSERT_EQ(results.Wait(), absl::OkStatus());
  const auto digests = device_->DigestTarget(*target, {1, kBytes}, 16 * kMiB);
  ASSERT_TRUE(digests.ok()) << digests.status();
  ASSERT_EQ(digests->size(), 17u);
  for (size_t block = 0; block < digests->size(); ++block) {
    EXPECT_EQ((*digests)[block], ExtendCrc32c(0, absl::string_view(bytes).substr(1 + block * 16 * kMiB, 16 * kMiB)));
  }
  EXPECT_EQ(runtime_->calls()["DigestSegments"], 2u);
}

}  // namespace
}  // namespace weightstream
