#include "kernels/host_device.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/copy_queue.h"
#include "kernels/host_target.h"
#include "kernels/pageable_memory.h"

namespace weightstream {
namespace {

// The target as one of ours, or null.
HostTarget* AsHostTarget(Target& target) { return dynamic_cast<HostTarget*>(&target); }

absl::Status ForeignTargetError() {
  return absl::InternalError("the target belongs to another device; this is a defect of the program");
}

class HostDevice : public Device {
 public:
  explicit HostDevice(HostDeviceOptions options) : options_(std::move(options)) {
    if (options_.device_like) queue_ = std::make_unique<CopyQueue>(options_.copy_latency, options_.shuffle_seed);
  }

  std::string name() const override { return options_.device_like ? "host (device-like)" : "host"; }

  bool needs_staging() const override { return options_.device_like; }

  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override {
    return HostTarget::Create(spec, options_);
  }

  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override {
    return AllocatePageableMemory(bytes);
  }

  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    auto copy = [staged, &target, offset, done = std::move(done)] {
      HostTarget* host_target = AsHostTarget(target);
      done(host_target == nullptr ? ForeignTargetError() : host_target->Write(staged, offset));
    };
    if (queue_ == nullptr) {
      copy();
    } else {
      queue_->Add(std::move(copy));
    }
  }

  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override {
    HostTarget* host_target = AsHostTarget(target);
    return host_target == nullptr ? ForeignTargetError() : host_target->Read(range, destination);
  }

  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override {
    HostTarget* host_target = AsHostTarget(target);
    if (host_target == nullptr) return ForeignTargetError();
    return host_target->Digest(range, block_bytes);
  }

  absl::Status Health() const override { return absl::OkStatus(); }

 private:
  const HostDeviceOptions options_;
  // Null unless device-like.
  std::unique_ptr<CopyQueue> queue_;
};

}  // namespace

std::unique_ptr<Device> NewHostDevice(HostDeviceOptions options) {
  return std::make_unique<HostDevice>(std::move(options));
}

}  // namespace weightstream
