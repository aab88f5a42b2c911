#include "kernels/host_device.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cast.h"
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

  std::string name() const override {
    if (!keeps_files()) return "host-memory";
    return options_.device_like ? "host (device-like)" : "host";
  }

  bool needs_staging() const override { return options_.device_like; }
  bool keeps_files() const override { return options_.memory == nullptr; }

  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override {
    return HostTarget::Create(spec, options_);
  }

  absl::StatusOr<uint64_t> FreeBytes() override {
    return options_.memory == nullptr ? Device::FreeBytes() : options_.memory->free_bytes();
  }

  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override {
    return AllocatePageableMemory(bytes);
  }

  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    Run([staged, &target, offset, done = std::move(done)] {
      HostTarget* host_target = AsHostTarget(target);
      done(host_target == nullptr ? ForeignTargetError() : host_target->Write(staged, offset));
    });
  }

  void CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    if (staged.size() % CastSourceBytes(cast) != 0 || offset % CastDestinationBytes(cast) != 0) {
      return done(absl::InternalError(absl::StrCat(name(), ": cannot cast ", staged.size(), " bytes to byte ", offset,
                                                   ", which are not whole elements; this is a defect of the program")));
    }
    Run([cast, staged, &target, offset, done = std::move(done)] {
      HostTarget* host_target = AsHostTarget(target);
      if (host_target == nullptr) return done(ForeignTargetError());
      const uint64_t elements = staged.size() / CastSourceBytes(cast);
      std::string bytes(elements * CastDestinationBytes(cast), '\0');
      CastElements(cast, staged.data(), bytes.data(), elements);
      done(host_target->Write(bytes, offset));
    });
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
  // Now, or later, as a device-like copy.
  void Run(std::function<void()> copy) {
    if (queue_ == nullptr) {
      copy();
    } else {
      queue_->Add(std::move(copy));
    }
  }

  const HostDeviceOptions options_;
  // Null unless device-like.
  std::unique_ptr<CopyQueue> queue_;
};

}  // namespace

std::unique_ptr<Device> NewHostDevice(HostDeviceOptions options) {
  return std::make_unique<HostDevice>(std::move(options));
}

}  // namespace weightstream
