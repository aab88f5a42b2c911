// The GPU benchmark's code paths, small, over devices that need no GPU. What the rates are is judged nowhere here.
#include "tests/gpu/rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/host_device.h"
#include "tensor/test_files.h"
#include "tests/gpu/tracing_device.h"

namespace weightstream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMiB = 1 << 20;

BenchmarkSizes Small() {
  return {.target_bytes = 16 * kMiB,
          .staging_bytes = 4 * kMiB,
          .chunk_bytes = {kMiB / 4, kMiB},
          .stream_chunk_bytes = kMiB,
          .push_bytes = 70 * kMiB,
          .rounds = 1,
          .kernel_repeats = 2};
}

absl::StatusOr<std::unique_ptr<Device>> HostStaged() { return NewHostDevice({.device_like = true}); }

class RatesTest : public ::testing::Test {
 protected:
  // Which rates have goals, and of what.
  std::vector<std::string> Goals() {
    std::vector<std::string> goals;
    for (const RateRow& row : report_.rows()) {
      if (row.to_reach == 0) continue;
      goals.push_back(absl::StrFormat("%s: %.2f of %s", row.name, row.to_reach, row.of));
      EXPECT_GT(row.of_rate, 0) << row.name;
    }
    return goals;
  }

  // Every rate was measured, none twice.
  void ExpectRows(size_t count) {
    std::set<std::string> names;
    for (const RateRow& row : report_.rows()) {
      EXPECT_GT(row.rate, 0) << row.name;
      names.insert(row.name);
    }
    EXPECT_EQ(report_.rows().size(), count);
    EXPECT_EQ(names.size(), count);
  }

  RateReport report_;
};

TEST_F(RatesTest, CopiesAreMeasuredAloneAndThroughStaging) {
  FakeCudaRuntime runtime;
  auto cuda = CudaDevice::Open(&runtime, {});
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  BenchmarkSizes sizes = Small();
  sizes.chunk_bytes = {kMiB, kPipelineGoalChunkBytes};
  EXPECT_TRUE(MeasureCopies(**cuda, sizes, report_).ok());
  ExpectRows(5);
  EXPECT_THAT(Goals(), ElementsAre("memory to device through staging, chunks of 4 MiB: 0.90 of "
                                   "pinned to device, chunks of 4 MiB (the ceiling)"));
  EXPECT_GT(report_.rate("memory to device through staging, chunks of 1 MiB"), 0);
  EXPECT_GT(report_.rate("pinned to device, copies of 4 KiB (many small tensors)"), 0);
  EXPECT_THAT(runtime.misuse(), IsEmpty());
}

TEST_F(RatesTest, CountsOfStreamsAreComparedAndTheBestIsNamed) {
  FakeCudaRuntime runtime;
  std::vector<int> opened;
  ::testing::internal::CaptureStdout();
  const absl::Status measured = MeasureCopyStreams(
      {1, 2, 4},
      [&](int streams) -> absl::StatusOr<std::unique_ptr<Device>> {
        opened.push_back(streams);
        return CudaDevice::Open(&runtime, {.copy_streams = streams});
      },
      Small(), report_);
  const std::string printed = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(measured.ok()) << measured;
  EXPECT_EQ(opened, std::vector<int>({1, 2, 4}));
  ExpectRows(3);
  EXPECT_GT(report_.rate("pinned to device, chunks of 1 MiB, 1 stream"), 0);
  EXPECT_GT(report_.rate("pinned to device, chunks of 1 MiB, 4 streams"), 0);
  EXPECT_THAT(printed, ::testing::ContainsRegex("best for copies: [124] streams? "));
  EXPECT_THAT(runtime.misuse(), IsEmpty());
  EXPECT_EQ(runtime.live(), 0u);
}

TEST_F(RatesTest, KernelsAreMeasuredAgainstTheMemorysBandwidth) {
  FakeCudaRuntime runtime;
  {
    auto device = CudaDevice::Open(&runtime, {});
    ASSERT_TRUE(device.ok()) << device.status();
    const absl::Status measured = MeasureKernels(runtime, **device, Small(), report_);
    EXPECT_TRUE(measured.ok()) << measured;
  }
  ExpectRows(6);
  const std::string bandwidth = "copy within device memory, read and written";
  EXPECT_EQ(report_.rows()[0].name, bandwidth);
  EXPECT_THAT(Goals(), ElementsAre("digest of device memory, the kernel alone: 0.50 of " + bandwidth,
                                   "cast F32 to BF16, read and written: 0.70 of " + bandwidth,
                                   "cast BF16 to F32, read and written: 0.70 of " + bandwidth,
                                   "cast BF16 to F16, read and written: 0.70 of " + bandwidth));
  EXPECT_THAT(runtime.misuse(), IsEmpty());
  EXPECT_EQ(runtime.live(), 0u);
}

TEST_F(RatesTest, AnErrorOfTheDeviceEndsAMeasurement) {
  FakeCudaRuntime runtime;
  auto device = CudaDevice::Open(&runtime, {});
  ASSERT_TRUE(device.ok()) << device.status();
  runtime.SetRule(
      [](absl::string_view call, uint64_t) { return call == "CopyOnDevice" ? kCudaInvalidValue : kCudaSuccess; });
  EXPECT_FALSE(MeasureKernels(runtime, **device, Small(), report_).ok());
  EXPECT_THAT(report_.rows(), IsEmpty());
}

TEST_F(RatesTest, WholePushesAreMeasuredSideBySide) {
  const absl::Status measured =
      MeasurePushes({{"to host", "", [] { return NewHostDevice(); }}, {"to host, staged", "to host", HostStaged}},
                    MakeTestFolder(), Small(), report_);
  EXPECT_TRUE(measured.ok()) << measured;
  ExpectRows(2);
}

TEST_F(RatesTest, WholePushesToDeviceMemoryAreMeasuredAndTraced) {
  FakeCudaRuntime runtime;
  const PushContender device = {
      "to a device", "to host, staged",
      [&]() -> absl::StatusOr<std::unique_ptr<Device>> { return CudaDevice::Open(&runtime, {}); }, kPushGoal};
  const std::string folder = MakeTestFolder();
  absl::Status measured = MeasurePushes({{"to host, staged", "", HostStaged}, device}, folder, Small(), report_);
  EXPECT_TRUE(measured.ok()) << measured;
  ExpectRows(2);
  EXPECT_THAT(Goals(), ElementsAre("to a device: 1.00 of to host, staged"));
  measured = TracePush(device, folder, Small(), "");
  EXPECT_TRUE(measured.ok()) << measured;
  EXPECT_THAT(runtime.misuse(), IsEmpty());
  EXPECT_EQ(runtime.live(), 0u);
}

TEST_F(RatesTest, APushIsTracedAndDrawn) {
  const std::string folder = MakeTestFolder();
  const std::string picture = folder + "/timeline.svg";
  ::testing::internal::CaptureStdout();
  const absl::Status traced = TracePush({"a push", "", HostStaged}, folder, Small(), picture);
  const std::string printed = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(traced.ok()) << traced;
  EXPECT_THAT(printed, HasSubstr("a push: of "));
  EXPECT_THAT(printed, HasSubstr("receive 1"));
  EXPECT_THAT(printed, HasSubstr("copy 1"));
  std::ifstream file(picture);
  const std::string svg(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(svg, HasSubstr("a push: the middle of it"));
  EXPECT_THAT(svg, HasSubstr("</svg>"));
}

// ---- What the trace takes for receiving -----------------------------------------------------------------------------

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runtime_device = CudaDevice::Open(&runtime_, {});
    ASSERT_TRUE(runtime_device.ok());
    device_ = std::make_unique<TracingDevice>(*std::move(runtime_device));
    target_ = *device_->CreateTarget({.bytes = kMiB});
    pinned_ = *device_->AllocatePinned(kMiB);
  }

  void Copy(uint64_t at, absl::Notification& done) {
    device_->CopyToTarget({pinned_->data() + at, 1024}, *target_, at, [&done](const absl::Status& copied) {
      EXPECT_TRUE(copied.ok()) << copied;
      done.Notify();
    });
  }

  FakeCudaRuntime runtime_;
  std::unique_ptr<TracingDevice> device_;
  std::unique_ptr<Target> target_;
  std::unique_ptr<PinnedMemory> pinned_;
};

TEST_F(TraceTest, ReceivingIsFromOneHandingOverToTheNext) {
  runtime_.HoldStreams(true);
  absl::Notification first, second;
  Copy(0, first);
  Copy(4096, second);
  runtime_.HoldStreams(false);
  first.WaitForNotification();
  second.WaitForNotification();
  const std::vector<ActivitySpan> spans = device_->TakeSpans();
  ASSERT_EQ(spans.size(), 3u);
  const Overlap overlap = OverlapOf(spans);
  EXPECT_EQ(overlap.both, overlap.receiving) << "the first copy went on all the while";
  EXPECT_GT(overlap.receiving, absl::ZeroDuration());
}

TEST_F(TraceTest, WaitingForASlotIsNotReceiving) {
  absl::Notification first, second;
  Copy(0, first);
  first.WaitForNotification();
  // The same slot again: what it received cannot have begun before its copy was done.
  Copy(0, second);
  second.WaitForNotification();
  EXPECT_EQ(OverlapOf(device_->TakeSpans()).both, absl::ZeroDuration());
  EXPECT_THAT(device_->TakeSpans(), IsEmpty());
}

}  // namespace
}  // namespace weightstream
