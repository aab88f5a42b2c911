// What the host device promises beyond the contract of all devices: files, and the room in them.
#include "kernels/host_device.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "kernels/device_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kExtent = kHostTargetExtentBytes;
constexpr absl::Duration kLongestWait = absl::Minutes(1);

// In a file on tmpfs, where huge pages and population are at work, or in one on a disk.
class HostDeviceTest : public testing::TestWithParam<bool> {
 protected:
  HostDeviceTest() : file_(GetParam() ? SharedMemoryFolder() : testing::TempDir()) {}

  // Keeps the last device until the end of the test.
  std::unique_ptr<Target> MakeTarget(uint64_t bytes, uint64_t start_in_file, HostDeviceOptions options = {}) {
    device_ = NewHostDevice(std::move(options));
    auto target = device_->CreateTarget({.bytes = bytes, .path = file_.path(), .start_in_file = start_in_file});
    EXPECT_TRUE(target.ok()) << target.status();
    return *std::move(target);
  }

  uint64_t AllocatedBytes() const {
    struct stat status;
    EXPECT_EQ(stat(file_.path().c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  TargetFile file_;
  std::unique_ptr<Device> device_;
};

TEST_P(HostDeviceTest, WhatLandsIsInTheFileBehindItsHeader) {
  const std::string header = RandomBytes(8'192, 1);
  const std::string bytes = RandomBytes(kExtent + 5'001, 2);
  file_.Write(header);
  std::unique_ptr<Target> target = MakeTarget(bytes.size(), header.size());
  ASSERT_EQ(target->Prepare({0, bytes.size()}), absl::OkStatus());
  std::memcpy(target->host_data(), bytes.data(), bytes.size());
  EXPECT_EQ(target->Sync(), absl::OkStatus());
  EXPECT_TRUE(file_.Read() == header + bytes);
  target.reset();
  EXPECT_TRUE(file_.Read() == header + bytes);
}

TEST_P(HostDeviceTest, PrepareKeepsTheBytesThatAreInTheFile) {
  const std::string before = RandomBytes(5 << 20, 3);
  for (const bool huge_pages : {true, false}) {
    file_.Write(before);
    std::unique_ptr<Target> target = MakeTarget(7 << 20, 4'096, {.huge_pages = huge_pages});
    ASSERT_EQ(target->Prepare({0, target->bytes()}), absl::OkStatus());
    EXPECT_TRUE(file_.Read() == before + std::string(4'096 + (7 << 20) - before.size(), '\0'));
  }
}

TEST_P(HostDeviceTest, ALargerFileKeepsItsSize) {
  file_.Write(RandomBytes(50'000, 4));
  const std::string before = file_.Read();
  std::unique_ptr<Target> target = MakeTarget(100, 4'096);
  ASSERT_EQ(target->Prepare({0, 100}), absl::OkStatus());
  EXPECT_TRUE(file_.Read() == before);
}

TEST_P(HostDeviceTest, NoRoomIsTakenBeforePrepareAndOnlyExtentsAfterIt) {
  std::unique_ptr<Target> target = MakeTarget(4 * kExtent, 0);
  EXPECT_LT(AllocatedBytes(), uint64_t{1} << 20);
  ASSERT_EQ(target->Prepare({kExtent + 7, kExtent + 8}), absl::OkStatus());
  EXPECT_GE(AllocatedBytes(), kExtent);
  EXPECT_LT(AllocatedBytes(), 2 * kExtent);
}

TEST_P(HostDeviceTest, ReadingWhatWasNeverWrittenGivesZerosAndTakesNoRoom) {
  std::unique_ptr<Target> target = MakeTarget(kExtent, 0);
  std::string bytes(1 << 20, '?');
  EXPECT_EQ(device_->ReadTarget(*target, {0, bytes.size()}, bytes.data()), absl::OkStatus());
  EXPECT_TRUE(bytes == std::string(bytes.size(), '\0'));
  EXPECT_LT(AllocatedBytes(), uint64_t{1} << 20);
}

TEST_P(HostDeviceTest, ACopyToUnpreparedBytesIsReported) {
  for (const bool device_like : {false, true}) {
    std::unique_ptr<Target> target = MakeTarget(2 * kExtent, 0, {.device_like = device_like});
    ASSERT_EQ(target->Prepare({0, 1}), absl::OkStatus());
    CopyResults results;
    const std::string bytes = RandomBytes(100, 5);
    device_->CopyToTarget({bytes.data(), bytes.size()}, *target, kExtent - 50, results.Expect());
    EXPECT_EQ(results.Wait().code(), absl::StatusCode::kInternal);
  }
}

TEST_P(HostDeviceTest, EachExtentIsAllocatedOnceInFileCoordinates) {
  ByteRanges allocated;
  HostDeviceOptions options;
  options.fallocate = [&](int fd, uint64_t offset, uint64_t bytes) {
    allocated.push_back({offset, offset + bytes});
    return SystemFallocate(fd, offset, bytes);
  };
  const uint64_t start = kExtent - 4'096;
  std::unique_ptr<Target> target = MakeTarget(kExtent + 10'000, start, options);
  EXPECT_EQ(target->Prepare({4'095, 4'097}), absl::OkStatus());
  EXPECT_EQ(target->Prepare({0, target->bytes()}), absl::OkStatus());
  EXPECT_EQ(target->Prepare({0, target->bytes()}), absl::OkStatus());
  EXPECT_EQ(allocated, (ByteRanges{{start, kExtent}, {kExtent, 2 * kExtent}, {2 * kExtent, start + target->bytes()}}));
}

TEST_P(HostDeviceTest, AFullMediumIsNamedAndARetrySucceedsOnceThereIsRoom) {
  for (const int error : {ENOSPC, EDQUOT, EFBIG}) {
    std::atomic<bool> full = true;
    HostDeviceOptions options;
    options.fallocate = [&](int fd, uint64_t offset, uint64_t bytes) {
      return full ? error : SystemFallocate(fd, offset, bytes);
    };
    std::unique_ptr<Target> target = MakeTarget(10'000, 0, options);
    const absl::Status status = target->Prepare({0, 10'000});
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_NE(status.message().find("no room for 10000 bytes at " + file_.path()), absl::string_view::npos) << status;
    full = false;
    EXPECT_EQ(target->Prepare({0, 10'000}), absl::OkStatus());
  }
}

TEST_P(HostDeviceTest, OtherErrorsOfAllocationAreReported) {
  HostDeviceOptions options;
  options.fallocate = [](int, uint64_t, uint64_t) { return EIO; };
  std::unique_ptr<Target> target = MakeTarget(10'000, 0, options);
  EXPECT_EQ(target->Prepare({0, 1}).code(), absl::StatusCode::kInternal);
}

TEST_P(HostDeviceTest, AnInterruptedAllocationIsRetried) {
  int calls = 0;
  HostDeviceOptions options;
  options.fallocate = [&](int fd, uint64_t offset, uint64_t bytes) {
    return ++calls < 4 ? EINTR : SystemFallocate(fd, offset, bytes);
  };
  std::unique_ptr<Target> target = MakeTarget(10'000, 0, options);
  EXPECT_EQ(target->Prepare({0, 10'000}), absl::OkStatus());
  EXPECT_EQ(calls, 4);
}

TEST_P(HostDeviceTest, AMediumThatCannotAllocateIsWrittenInstead) {
  const std::string before = RandomBytes(3'000'000, 6);
  file_.Write(before);
  HostDeviceOptions options;
  options.huge_pages = false;
  options.fallocate = [](int, uint64_t, uint64_t) { return EOPNOTSUPP; };
  std::unique_ptr<Target> target = MakeTarget(5'000'000, 4'096, options);
  ASSERT_EQ(target->Prepare({0, target->bytes()}), absl::OkStatus());
  // A hole would not count.
  EXPECT_GE(AllocatedBytes(), target->bytes());
  EXPECT_TRUE(file_.Read() == before + std::string(5'000'000 + 4'096 - before.size(), '\0'));
}

TEST_P(HostDeviceTest, ThreadsThatNeedAnExtentWaitForTheOneThatAllocatesItAndNoOthersDo) {
  absl::Notification allocating, go_on;
  std::atomic<int> calls = 0;
  HostDeviceOptions options;
  options.fallocate = [&](int fd, uint64_t offset, uint64_t bytes) {
    ++calls;
    if (offset == 0) {
      allocating.Notify();
      EXPECT_TRUE(go_on.WaitForNotificationWithTimeout(kLongestWait));
    }
    return SystemFallocate(fd, offset, bytes);
  };
  std::unique_ptr<Target> target = MakeTarget(2 * kExtent, 0, options);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      EXPECT_EQ(target->Prepare({5, 6}), absl::OkStatus());
      EXPECT_TRUE(go_on.HasBeenNotified());
    });
  }
  ASSERT_TRUE(allocating.WaitForNotificationWithTimeout(kLongestWait));
  EXPECT_EQ(target->Prepare({kExtent, kExtent + 1}), absl::OkStatus());
  EXPECT_FALSE(go_on.HasBeenNotified());
  go_on.Notify();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(calls, 2);
}

TEST_P(HostDeviceTest, DestructionOfADeviceWaitsForItsCopies) {
  const std::string bytes = RandomBytes(100'000, 7);
  std::unique_ptr<Target> target =
      MakeTarget(bytes.size(), 0, {.device_like = true, .copy_latency = absl::Milliseconds(20)});
  ASSERT_EQ(target->Prepare({0, bytes.size()}), absl::OkStatus());
  CopyResults results;
  for (uint64_t at = 0; at < bytes.size(); at += 1'000) {
    device_->CopyToTarget({bytes.data() + at, 1'000}, *target, at, results.Expect());
  }
  device_.reset();
  EXPECT_EQ(results.calls(), std::vector<int>(100, 1));
  EXPECT_TRUE(file_.Read() == bytes);
}

TEST_P(HostDeviceTest, ADeviceLikeCopyIsDoneAfterItsLatency) {
  const std::string bytes = RandomBytes(100, 8);
  constexpr absl::Duration kLatency = absl::Milliseconds(20);
  std::unique_ptr<Target> target = MakeTarget(bytes.size(), 0, {.device_like = true, .copy_latency = kLatency});
  ASSERT_EQ(target->Prepare({0, bytes.size()}), absl::OkStatus());
  CopyResults results;
  const absl::Time start = absl::Now();
  device_->CopyToTarget({bytes.data(), bytes.size()}, *target, 0, results.Expect());
  EXPECT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_GE(absl::Now() - start, kLatency);
}

INSTANTIATE_TEST_SUITE_P(Media, HostDeviceTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "SharedMemory" : "TemporaryFolder"; });

}  // namespace
}  // namespace weightstream
