// A device that fails where a test wants it to: a decorator around any other. For tests of whatever is built on Device.
//
//   FaultyDevice device(NewHostDevice({.device_like = true}));
//   device.SetRule(FailCalls(DeviceCall::Kind::kCopyToTarget, /*first=*/3, /*count=*/1, absl::InternalError("ECC")));
#ifndef WEIGHTSTREAM_KERNELS_FAULTY_DEVICE_H_
#define WEIGHTSTREAM_KERNELS_FAULTY_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device.h"
#include "tensor/byte_range.h"

namespace weightstream {

// One call that a rule decides on.
struct DeviceCall {
  enum class Kind {
    kCreateTarget,
    kAllocatePinned,
    kPrepare,
    kCopyToTarget,
    kReadTarget,
    kDigestTarget,
    kSync,
    kHealth
  };

  Kind kind;
  // How many calls of this kind came before, on this device and all of its targets, since the rule was set.
  uint64_t index;
  // In the target; from 0 to the size for CreateTarget and AllocatePinned; empty for Sync and Health.
  ByteRange range;
};

// The error that the call is to have, or OK to let it through. Called on the thread of the call, several at once.
using FaultRule = std::function<absl::Status(const DeviceCall&)>;

// Fails `count` calls of this kind with `error`, from the one with index `first` on.
FaultRule FailCalls(DeviceCall::Kind kind, uint64_t first, uint64_t count, absl::Status error);

// Thread-safe, the targets too; they keep the rule, and need the device as any target does.
//
// A call that is made to fail does not reach the device within, but for one thing: a failing copy starts an empty copy
// there, and `done` gets the error when that completes. So a failure comes when a real one would, on the thread on
// which a real one would, and the bytes are not in the target.
class FaultyDevice : public Device {
 public:
  explicit FaultyDevice(std::unique_ptr<Device> device);
  ~FaultyDevice() override;

  // Applies to calls from now on, counted anew. An empty rule lets everything through.
  void SetRule(FaultRule rule);

  // How many calls of this kind came since the rule was set, failed or not.
  uint64_t Calls(DeviceCall::Kind kind) const;

  std::string name() const override;
  bool needs_staging() const override;
  bool keeps_files() const override;
  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override;
  // Neither is decided on.
  uint64_t TargetFootprint(uint64_t bytes) const override;
  absl::StatusOr<uint64_t> FreeBytes() override;
  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override;
  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override;
  // Decided on as kCopyToTarget.
  void CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override;
  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override;
  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override;
  // Not decided on.
  absl::Status PrepareToCast() override;
  absl::StatusOr<SharedMemory> Export(Target& target) override;
  absl::StatusOr<std::unique_ptr<Target>> Open(const SharedMemory& shared) override;
  absl::Status Health() const override;

 private:
  class Faults;
  class FaultyTarget;

  // Shared with the targets.
  const std::shared_ptr<Faults> faults_;
  const std::unique_ptr<Device> device_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_FAULTY_DEVICE_H_
