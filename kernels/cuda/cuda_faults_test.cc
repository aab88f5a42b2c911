// Errors of CUDA, at every call that the device makes, and what a device that has failed does: over a fake runtime.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/device_testing.h"

namespace weightstream {
namespace {

constexpr CudaError kPassing = kCudaInvalidValue;
constexpr CudaError kLasting = kCudaIllegalAddress;

// The first 100 bytes of another process's memory.
SharedMemory SharedOf(const CudaIpcHandle& handle) {
  SharedMemory shared;
  shared.handle.assign(handle.begin(), handle.end());
  shared.device_uuid.assign(16, '\xA0');
  shared.bytes = 100;
  return shared;
}

// All that a device can be asked, once; the errors that came of it.
class Scenario {
 public:
  explicit Scenario(FakeCudaRuntime& runtime) : runtime_(runtime), elsewhere_(runtime.AllocateElsewhere(0, 1 << 16)) {}

  std::vector<absl::Status> Run() {
    auto opened = CudaDevice::Open(&runtime_, {});
    Note(opened.status());
    if (opened.ok()) Use(**opened);
    return errors_;
  }

 private:
  void Note(const absl::Status& status) {
    if (!status.ok()) errors_.push_back(status);
  }

  void Use(CudaDevice& device) {
    auto pinned = device.AllocatePinned(1'000);
    Note(pinned.status());
    Note(device.FreeBytes().status());
    auto target = device.CreateTarget({.bytes = 4'000});
    Note(target.status());
    if (pinned.ok() && target.ok()) {
      std::memset((*pinned)->data(), 1, 1'000);
      Copy(device, {(*pinned)->data(), 1'000}, **target);
      std::string bytes(1'000, '\0');
      Note(device.ReadTarget(**target, {0, 1'000}, bytes.data()));
      Note(device.DigestTarget(**target, {0, 4'000}, kDigestBlockMultiple).status());
      Note(device.Export(**target).status());
    }
    Note(device.Open(SharedOf(elsewhere_.first)).status());
  }

  void Copy(CudaDevice& device, absl::string_view staged, Target& target) {
    CopyResults results;
    for (uint64_t copy = 0; copy < 4; ++copy) device.CopyToTarget(staged, target, copy * 1'000, results.Expect());
    device.CastToTarget(FloatCast::kF32ToBf16, staged, target, 0, results.Expect());
    device.CastToTarget(FloatCast::kBf16ToF32, staged, target, 2'000, results.Expect());
    Note(results.Wait());
    EXPECT_EQ(results.calls(), std::vector<int>(6, 1)) << "each is done once, whatever happens";
  }

  FakeCudaRuntime& runtime_;
  const std::pair<CudaIpcHandle, char*> elsewhere_;
  std::vector<absl::Status> errors_;
};

// What gives something back, or asks for the message of an error that has come already, has nobody to tell.
bool IsSilent(const std::string& call) {
  return call == "Free" || call == "FreeHost" || call == "StreamDestroy" || call == "EventDestroy" ||
         call == "IpcCloseMemHandle";
}

FakeCudaRuntime::Rule FailOnce(const std::string& name, uint64_t at, CudaError error) {
  return [=](absl::string_view call, uint64_t index) { return call == name && index == at ? error : kCudaSuccess; };
}

// Every call of the scenario, and how often it is made. Those that poll are made as often as time allows: the first
// few.
std::map<std::string, uint64_t> CallsOfScenario() {
  FakeCudaRuntime runtime;
  EXPECT_EQ(Scenario(runtime).Run(), std::vector<absl::Status>());
  EXPECT_EQ(runtime.misuse(), std::vector<std::string>());
  std::map<std::string, uint64_t> calls = runtime.calls();
  // More than this scenario makes would mean that it no longer shows what it should.
  EXPECT_GE(calls.size(), 24u);
  calls["EventQuery"] = std::min<uint64_t>(calls["EventQuery"], 3);
  return calls;
}

TEST(CudaFaultsTest, AnErrorAtAnyCallIsReportedWithItsDeviceAndLeavesNothingBehind) {
  for (const CudaError error : {kPassing, kLasting}) {
    for (const auto& [call, count] : CallsOfScenario()) {
      for (uint64_t at = 0; at < count; ++at) {
        SCOPED_TRACE(absl::StrCat("error ", error, " at call ", at, " of ", call));
        FakeCudaRuntime runtime;
        runtime.SetRule(FailOnce(call, at, error));
        const std::vector<absl::Status> errors = Scenario(runtime).Run();
        // How often these are called depends on how fast things go: all but the first may not come this time.
        const bool chance =
            at > 0 && (call == "EventQuery" || call == "SetDevice" || call == "EventCreate" || call == "EventDestroy");
        const bool came = runtime.calls()[call] > at;
        EXPECT_TRUE(came || chance);
        // The last times that a device is set are for giving back.
        const bool silent = IsSilent(call) || (call == "SetDevice" && at > 0);
        EXPECT_TRUE(!came || silent || !errors.empty());
        for (const absl::Status& reported : errors) {
          EXPECT_TRUE(absl::StrContains(reported.message(), "cuda:0")) << reported;
          EXPECT_TRUE(absl::StrContains(reported.message(), "cudaError")) << reported;
        }
        // An error of a stream's work that CUDA is not known to end it with: the scratch memory of both is kept.
        const bool kept = error == kPassing && absl::EndsWith(call, "!");
        EXPECT_LE(runtime.live(), kept ? 2u : 0u);
        EXPECT_EQ(runtime.misuse(), std::vector<std::string>());
      }
    }
  }
}

class CudaFailedDeviceTest : public testing::Test {
 protected:
  ~CudaFailedDeviceTest() override {
    runtime_.HoldStreams(false);
    pinned_.reset();
    target_.reset();
    device_.reset();
    EXPECT_EQ(runtime_.live(), 0u);
  }

  void Copy(uint64_t count) {
    for (uint64_t copy = 0; copy < count; ++copy) {
      device_->CopyToTarget({pinned_->data(), 100}, *target_, 0, results_.Expect());
    }
  }

  // Whether it is, within the longest time that a test waits.
  bool Called(const std::string& call) const {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (runtime_.calls()[call] == 0 && absl::Now() < deadline) std::this_thread::yield();
    return runtime_.calls()[call] > 0;
  }

  FakeCudaRuntime runtime_;
  CopyResults results_;
  std::unique_ptr<CudaDevice> device_ = CudaDevice::Open(&runtime_, {.patience = absl::Milliseconds(50)}).value();
  std::unique_ptr<Target> target_ = device_->CreateTarget({.bytes = 100}).value();
  std::unique_ptr<PinnedMemory> pinned_ = device_->AllocatePinned(100).value();
};

TEST_F(CudaFailedDeviceTest, AnErrorOfTheDeviceItselfEndsEveryCopyAndSaysWhatToDo) {
  runtime_.SetRule(FailOnce("CopyToDevice!", 3, kLasting));
  Copy(20);
  // Which call is the first to hear of it, and so the one that is named, is chance.
  EXPECT_EQ(results_.Wait().code(), absl::StatusCode::kInternal);
  const absl::Status failed = device_->Health();
  EXPECT_EQ(results_.calls(), std::vector<int>(20, 1));
  for (const std::string part : {"cuda:0", "cudaErrorIllegalAddress", "restart the server", "Xid"}) {
    EXPECT_TRUE(absl::StrContains(failed.message(), part)) << failed;
  }
  EXPECT_EQ(target_->Sync(), failed) << "what cannot be relied on must not be committed";
}

TEST_F(CudaFailedDeviceTest, EveryLaterCallReturnsTheFirstReason) {
  runtime_.SetRule(FailOnce("CopyToDevice!", 0, kLasting));
  Copy(1);
  ASSERT_FALSE(results_.Wait().ok());
  const absl::Status failed = device_->Health();
  char byte;
  EXPECT_EQ(device_->CreateTarget({.bytes = 1}).status(), failed);
  EXPECT_EQ(device_->AllocatePinned(1).status(), failed);
  EXPECT_EQ(device_->ReadTarget(*target_, {0, 1}, &byte), failed);
  EXPECT_EQ(device_->DigestTarget(*target_, {0, 1}, kDigestBlockMultiple).status(), failed);
  EXPECT_EQ(device_->Export(*target_).status(), failed);
  CopyResults later;
  device_->CopyToTarget({pinned_->data(), 1}, *target_, 0, later.Expect());
  EXPECT_EQ(later.Wait(), failed);
}

TEST_F(CudaFailedDeviceTest, APassingErrorFailsItsCopyAndNoOther) {
  runtime_.SetRule(FailOnce("CopyToDevice", 1, kPassing));
  CopyResults failing;
  Copy(1);
  device_->CopyToTarget({pinned_->data(), 100}, *target_, 0, failing.Expect());
  Copy(1);
  EXPECT_FALSE(failing.Wait().ok());
  EXPECT_EQ(results_.Wait(), absl::OkStatus());
  EXPECT_EQ(device_->Health(), absl::OkStatus());
}

// The slot may be written again once `done` was called: so nothing may read it any more.
TEST_F(CudaFailedDeviceTest, WithoutAnEventTheCopyIsWaitedFor) {
  runtime_.SetRule(FailOnce("EventRecord", 0, kPassing));
  std::memset(pinned_->data(), 'a', 100);
  device_->CopyToTarget({pinned_->data(), 100}, *target_, 0, [this, done = results_.Expect()](absl::Status status) {
    std::memset(pinned_->data(), 'b', 100);
    done(std::move(status));
  });
  EXPECT_FALSE(results_.Wait().ok());
  std::string bytes(100, '\0');
  ASSERT_EQ(device_->ReadTarget(*target_, {0, 100}, bytes.data()), absl::OkStatus());
  EXPECT_EQ(bytes, std::string(100, 'a'));
}

// An error that is not one of the device itself says nothing of the copies that it has: they may go on.
TEST_F(CudaFailedDeviceTest, AnEventThatCannotBeAskedEndsItsCopiesOnlyOnceTheyAreOver) {
  const auto [handle, memory] = runtime_.AllocateElsewhere(0, 100);
  target_ = device_->Open(SharedOf(handle)).value();
  std::memset(pinned_->data(), 'a', 100);
  runtime_.HoldStreams(true);
  for (uint64_t at = 0; at < 100; at += 25) {
    char* const slot = pinned_->data() + at;
    device_->CopyToTarget({slot, 25}, *target_, at, [slot, done = results_.Expect()](absl::Status status) {
      // It may be written again.
      std::memset(slot, 'b', 25);
      done(std::move(status));
    });
  }
  // Only now: what comes to a failed device is not queued.
  runtime_.SetRule(FailOnce("EventQuery", 0, kPassing));
  EXPECT_TRUE(Called("StreamSynchronize"));
  EXPECT_EQ(results_.calls(), std::vector<int>(4, 0));
  runtime_.HoldStreams(false);
  EXPECT_FALSE(results_.Wait().ok());
  EXPECT_EQ(results_.calls(), std::vector<int>(4, 1));
  EXPECT_EQ(std::string(memory, 100), std::string(100, 'a')) << "none was written after its end";
  EXPECT_FALSE(device_->Health().ok());
}

TEST_F(CudaFailedDeviceTest, WhatACopyUsesThatMayBeUnderWayIsKeptUntilTheProcessEnds) {
  const auto slot = std::make_shared<int>();
  runtime_.HoldStreams(true);
  for (int copy = 0; copy < 2; ++copy) {
    device_->CopyToTarget({pinned_->data(), 100}, *target_, 0,
                          [slot, done = results_.Expect()](absl::Status status) { done(std::move(status)); });
  }
  runtime_.SetRule([](absl::string_view call, uint64_t) {
    return call == "EventQuery" || call == "StreamSynchronize" ? kPassing : kCudaSuccess;
  });
  EXPECT_FALSE(results_.Wait().ok()) << "nobody waits for them";
  EXPECT_EQ(results_.calls(), std::vector<int>(2, 1));
  const absl::Status failed = device_->Health();
  for (const std::string part : {"cuda:0", "may still be under way", "kept until this process ends"}) {
    EXPECT_TRUE(absl::StrContains(failed.message(), part)) << failed;
  }
  // The device's end waits for its thread, which by then has let go of all that it lets go.
  runtime_.SetRule({});
  runtime_.HoldStreams(false);
  device_.reset();
  EXPECT_EQ(slot.use_count(), 3);
}

TEST_F(CudaFailedDeviceTest, ACopyWithoutAnEventThatCannotBeWaitedForIsKeptToo) {
  const auto slot = std::make_shared<int>();
  runtime_.SetRule([](absl::string_view call, uint64_t) {
    return call == "EventRecord" || call == "StreamSynchronize" ? kPassing : kCudaSuccess;
  });
  device_->CopyToTarget({pinned_->data(), 100}, *target_, 0,
                        [slot, done = results_.Expect()](absl::Status status) { done(std::move(status)); });
  EXPECT_FALSE(results_.Wait().ok());
  EXPECT_TRUE(absl::StrContains(device_->Health().message(), "kept until this process ends")) << device_->Health();
  runtime_.SetRule({});
  device_.reset();
  EXPECT_EQ(slot.use_count(), 2);
}

TEST_F(CudaFailedDeviceTest, AfterAnErrorOfTheDeviceItselfNothingIsKept) {
  const auto slot = std::make_shared<int>();
  runtime_.SetRule(FailOnce("CopyToDevice!", 0, kLasting));
  device_->CopyToTarget({pinned_->data(), 100}, *target_, 0,
                        [slot, done = results_.Expect()](absl::Status status) { done(std::move(status)); });
  EXPECT_FALSE(results_.Wait().ok());
  device_.reset();
  EXPECT_EQ(slot.use_count(), 1);
}

TEST_F(CudaFailedDeviceTest, ADeviceThatNeverAnswersIsGivenUp) {
  runtime_.HoldStreams(true);
  device_->CopyToTarget({pinned_->data(), 100}, *target_, 0, [this, done = results_.Expect()](absl::Status status) {
    // Only now may the device answer, or the fake's threads could not end.
    runtime_.HoldStreams(false);
    done(std::move(status));
  });
  device_.reset();
  const absl::Status given_up = results_.Wait();
  EXPECT_EQ(given_up.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(absl::StrContains(given_up.message(), "cuda:0 did not complete 1 copies")) << given_up;
}

}  // namespace
}  // namespace weightstream
