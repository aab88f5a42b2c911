// Each injected error surfaces where it should, as it is, and nothing waits for ever: over every backend.
#include "kernels/faulty_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device_testing.h"

namespace weightstream {
namespace {

const absl::Status kFault = absl::DataLossError("injected");

class FaultyDeviceTest : public testing::TestWithParam<DeviceBackend> {
 protected:
  void SetUp() override {
    if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
  }

  void FailFirst(DeviceCall::Kind kind) { device_.SetRule(FailCalls(kind, 0, 1, kFault)); }

  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(uint64_t bytes) {
    TargetSpec spec{.bytes = bytes};
    if (!GetParam().folder.empty()) {
      file_ = std::make_unique<TargetFile>(GetParam().folder);
      spec.path = file_->path();
    }
    return device_.CreateTarget(spec);
  }

  std::unique_ptr<Target> MakePreparedTarget(uint64_t bytes) {
    absl::StatusOr<std::unique_ptr<Target>> target = CreateTarget(bytes);
    EXPECT_TRUE(target.ok()) << target.status();
    EXPECT_EQ((*target)->Prepare({0, bytes}), absl::OkStatus());
    return *std::move(target);
  }

  std::unique_ptr<TargetFile> file_;
  FaultyDevice device_{GetParam().missing.empty() ? GetParam().make() : nullptr};
};

TEST_P(FaultyDeviceTest, CreateTargetFailsOnce) {
  FailFirst(DeviceCall::Kind::kCreateTarget);
  EXPECT_EQ(CreateTarget(10).status(), kFault);
  EXPECT_EQ(CreateTarget(10).status(), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, AllocatePinnedFailsOnce) {
  FailFirst(DeviceCall::Kind::kAllocatePinned);
  EXPECT_EQ(device_.AllocatePinned(10).status(), kFault);
  EXPECT_EQ(device_.AllocatePinned(10).status(), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, PrepareFailsOnceAndCanBeRetried) {
  absl::StatusOr<std::unique_ptr<Target>> target = CreateTarget(10);
  ASSERT_TRUE(target.ok()) << target.status();
  FailFirst(DeviceCall::Kind::kPrepare);
  EXPECT_EQ((*target)->Prepare({0, 10}), kFault);
  EXPECT_EQ((*target)->Prepare({0, 10}), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, SyncFailsOnce) {
  std::unique_ptr<Target> target = MakePreparedTarget(10);
  FailFirst(DeviceCall::Kind::kSync);
  EXPECT_EQ(target->Sync(), kFault);
  EXPECT_EQ(target->Sync(), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, ReadTargetFailsOnce) {
  std::unique_ptr<Target> target = MakePreparedTarget(10);
  std::string bytes(10, '?');
  FailFirst(DeviceCall::Kind::kReadTarget);
  EXPECT_EQ(device_.ReadTarget(*target, {0, 10}, bytes.data()), kFault);
  EXPECT_EQ(device_.ReadTarget(*target, {0, 10}, bytes.data()), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, DigestTargetFailsOnce) {
  std::unique_ptr<Target> target = MakePreparedTarget(10);
  FailFirst(DeviceCall::Kind::kDigestTarget);
  EXPECT_EQ(device_.DigestTarget(*target, {0, 10}, kDigestBlockMultiple).status(), kFault);
  EXPECT_EQ(device_.DigestTarget(*target, {0, 10}, kDigestBlockMultiple).status(), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, HealthFailsForGood) {
  device_.SetRule(FailCalls(DeviceCall::Kind::kHealth, 1, ~uint64_t{0}, kFault));
  EXPECT_EQ(device_.Health(), absl::OkStatus());
  EXPECT_EQ(device_.Health(), kFault);
  EXPECT_EQ(device_.Health(), kFault);
}

TEST_P(FaultyDeviceTest, TheChosenCopyFailsDoesNotLandAndTheOthersDo) {
  constexpr int kCopies = 20;
  constexpr int kFailing = 7;
  auto staged = device_.AllocatePinned(kCopies);
  ASSERT_TRUE(staged.ok()) << staged.status();
  std::memset((*staged)->data(), 'w', kCopies);
  std::unique_ptr<Target> target = MakePreparedTarget(kCopies);
  device_.SetRule(FailCalls(DeviceCall::Kind::kCopyToTarget, kFailing, 1, kFault));
  std::vector<CopyResults> results(kCopies);
  for (int copy = 0; copy < kCopies; ++copy) {
    device_.CopyToTarget({(*staged)->data() + copy, 1}, *target, copy, results[copy].Expect());
  }
  for (int copy = 0; copy < kCopies; ++copy) {
    EXPECT_EQ(results[copy].Wait(), copy == kFailing ? kFault : absl::OkStatus()) << copy;
    EXPECT_EQ(results[copy].calls(), std::vector<int>{1});
  }
  std::string landed(kCopies, '?');
  ASSERT_EQ(device_.ReadTarget(*target, {0, kCopies}, landed.data()), absl::OkStatus());
  EXPECT_NE(landed[kFailing], 'w');
  landed[kFailing] = 'w';
  EXPECT_EQ(landed, std::string(kCopies, 'w'));
  EXPECT_EQ(device_.Calls(DeviceCall::Kind::kCopyToTarget), static_cast<uint64_t>(kCopies));
}

TEST_P(FaultyDeviceTest, ARuleMayChooseByRange) {
  std::unique_ptr<Target> target = MakePreparedTarget(100);
  auto staged = device_.AllocatePinned(10);
  ASSERT_TRUE(staged.ok()) << staged.status();
  device_.SetRule([](const DeviceCall& call) {
    return call.kind == DeviceCall::Kind::kCopyToTarget && call.range.begin >= 50 ? kFault : absl::OkStatus();
  });
  CopyResults low, high;
  device_.CopyToTarget({(*staged)->data(), 10}, *target, 90, high.Expect());
  device_.CopyToTarget({(*staged)->data(), 10}, *target, 40, low.Expect());
  EXPECT_EQ(high.Wait(), kFault);
  EXPECT_EQ(low.Wait(), absl::OkStatus());
}

TEST_P(FaultyDeviceTest, WithoutARuleItIsTheDeviceWithin) {
  std::unique_ptr<Device> plain = GetParam().make();
  EXPECT_EQ(device_.name(), plain->name());
  EXPECT_EQ(device_.needs_staging(), plain->needs_staging());
  std::unique_ptr<Target> target = MakePreparedTarget(10);
  EXPECT_EQ(target->bytes(), 10u);
  EXPECT_EQ(target->host_data() == nullptr, plain->needs_staging());
}

INSTANTIATE_TEST_SUITE_P(Backends, FaultyDeviceTest, testing::ValuesIn(DeviceBackends()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weightstream
