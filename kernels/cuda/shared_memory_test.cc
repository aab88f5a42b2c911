// Device memory that two processes share: what is given out, and that nothing that is taken in is trusted.
#include "kernels/cuda/shared_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/device_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kBytes = 1 << 20;

class SharedMemoryTest : public testing::Test {
 protected:
  ~SharedMemoryTest() override {
    device_.reset();
    EXPECT_EQ(runtime_.live(), 0u);
    EXPECT_EQ(runtime_.misuse(), std::vector<std::string>());
  }

  // Memory of another process on device `device`, as that would register it.
  SharedMemory Registered(int device = 0) {
    const auto [handle, memory] = runtime_.AllocateElsewhere(device, kBytes);
    elsewhere_ = memory;
    return {std::string(handle.begin(), handle.end()), std::string(16, static_cast<char>(0xA0 + device)), 0, kBytes};
  }

  void ExpectRefused(const SharedMemory& shared, absl::string_view why) {
    const absl::Status refused = device_->Open(shared).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), why)) << refused;
    EXPECT_EQ(device_->Health(), absl::OkStatus());
  }

  FakeCudaRuntime runtime_{FakeCudaOptions{.devices = 2}};
  std::unique_ptr<CudaDevice> device_ = CudaDevice::Open(&runtime_, {}).value();
  char* elsewhere_ = nullptr;
};

TEST_F(SharedMemoryTest, RegisteredMemoryIsWrittenInPlace) {
  SharedMemory shared = Registered();
  shared.offset = 1'000;
  shared.bytes = 500;
  std::memset(elsewhere_, '#', kBytes);
  auto target = device_->Open(shared);
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ((*target)->bytes(), 500u);
  const std::string bytes = RandomBytes(500, 1);
  std::unique_ptr<PinnedMemory> staged = device_->AllocatePinned(500).value();
  std::memcpy(staged->data(), bytes.data(), 500);
  CopyResults results;
  device_->CopyToTarget({staged->data(), 500}, **target, 0, results.Expect());
  ASSERT_EQ(results.Wait(), absl::OkStatus());
  std::string expected(kBytes, '#');
  expected.replace(1'000, 500, bytes);
  EXPECT_TRUE(std::string(elsewhere_, kBytes) == expected);
}

TEST_F(SharedMemoryTest, ItIsClosedWithTheTarget) {
  const SharedMemory shared = Registered();
  const uint64_t before = runtime_.live();
  auto first = device_->Open(shared);
  auto second = device_->Open(shared);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(runtime_.live(), before + 2);
  first->reset();
  second->reset();
  EXPECT_EQ(runtime_.live(), before);
}

TEST_F(SharedMemoryTest, HandlesOfAnotherLengthAreRefused) {
  SharedMemory shared = Registered();
  for (const std::string& handle : {std::string(), shared.handle.substr(1), shared.handle + "x"}) {
    shared.handle = handle;
    ExpectRefused(shared, "64 bytes");
  }
  EXPECT_EQ(runtime_.calls()["IpcOpenMemHandle"], 0u);
}

TEST_F(SharedMemoryTest, GarbageIsRefused) {
  SharedMemory shared = Registered();
  for (uint64_t seed = 0; seed < 100; ++seed) {
    shared.handle = RandomBytes(64, seed);
    ExpectRefused(shared, "the handle is not one");
  }
}

TEST_F(SharedMemoryTest, AnotherDeviceIsRefusedAndBothAreNamed) {
  ExpectRefused(Registered(1), "GPU-a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1, and cuda:0 of this server is GPU-a0a0");
  SharedMemory unnamed = Registered();
  unnamed.device_uuid.clear();
  ExpectRefused(unnamed, "cuda:0");
  EXPECT_EQ(runtime_.calls()["IpcOpenMemHandle"], 0u);
}

TEST_F(SharedMemoryTest, MemoryOfAnotherDeviceThatClaimsToBeOfOursIsRefusedAndClosedAgain) {
  SharedMemory lying = Registered(1);
  lying.device_uuid = std::string(16, '\xA0');
  const uint64_t before = runtime_.live();
  ExpectRefused(lying,
                "device GPU-a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1 (cuda:1), whatever was said of it, and cuda:0 of "
                "this server is GPU-a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0");
  EXPECT_EQ(runtime_.live(), before);
}

TEST_F(SharedMemoryTest, RangesThatLeaveTheAllocationAreRefusedAndClosedAgain) {
  SharedMemory shared = Registered();
  const uint64_t before = runtime_.live();
  struct Case {
    uint64_t offset;
    uint64_t bytes;
  };
  for (const Case& bad :
       std::vector<Case>{{0, kBytes + 1}, {1, kBytes}, {kBytes, 1}, {~uint64_t{0}, 2}, {2, ~uint64_t{0}}}) {
    shared.offset = bad.offset;
    shared.bytes = bad.bytes;
    ExpectRefused(shared, "has 1048576");
  }
  shared.offset = 0;
  shared.bytes = 0;
  ExpectRefused(shared, "empty");
  EXPECT_EQ(runtime_.live(), before);
}

TEST_F(SharedMemoryTest, WhatAProcessThatDiedOwnedIsRefused) {
  const SharedMemory shared = Registered();
  runtime_.EndOtherProcess();
  ExpectRefused(shared, "still lives");
}

TEST_F(SharedMemoryTest, AnExportNamesTheWholeTargetAndItsDevice) {
  std::unique_ptr<Target> target = device_->CreateTarget({.bytes = 12'345}).value();
  const auto shared = device_->Export(*target);
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(shared->handle.size(), 64u);
  EXPECT_EQ(shared->device_uuid, std::string(16, '\xA0'));
  EXPECT_EQ(shared->offset, 0u);
  EXPECT_EQ(shared->bytes, 12'345u);
  // A process cannot open its own: an error of the caller's, and none of the device.
  ExpectRefused(*shared, "another process's");
}

TEST_F(SharedMemoryTest, OnlyOwnMemoryIsExported) {
  auto registered = device_->Open(Registered());
  ASSERT_TRUE(registered.ok());
  EXPECT_EQ(device_->Export(**registered).status().code(), absl::StatusCode::kFailedPrecondition);
  std::unique_ptr<Target> empty = device_->CreateTarget({.bytes = 0}).value();
  EXPECT_EQ(device_->Export(*empty).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace weightstream
