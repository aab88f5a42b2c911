#include "kernels/faulty_device.h"

#include <array>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {
namespace {

constexpr size_t kKinds = static_cast<size_t>(DeviceCall::Kind::kHealth) + 1;

}  // namespace

FaultRule FailCalls(DeviceCall::Kind kind, uint64_t first, uint64_t count, absl::Status error) {
  return [kind, first, count, error = std::move(error)](const DeviceCall& call) {
    // Written so that first + count may exceed what 64 bits hold.
    const bool fails = call.kind == kind && call.index >= first && call.index - first < count;
    return fails ? error : absl::OkStatus();
  };
}

// The rule, and how many calls it saw.
class FaultyDevice::Faults {
 public:
  void SetRule(FaultRule rule) {
    absl::MutexLock lock(&mutex_);
    rule_ = std::make_shared<const FaultRule>(std::move(rule));
    calls_.fill(0);
  }

  absl::Status Decide(DeviceCall::Kind kind, ByteRange range) {
    DeviceCall call{kind, 0, range};
    std::shared_ptr<const FaultRule> rule;
    {
      absl::MutexLock lock(&mutex_);
      call.index = calls_[static_cast<size_t>(kind)]++;
      rule = rule_;
    }
    return *rule ? (*rule)(call) : absl::OkStatus();
  }

  uint64_t Calls(DeviceCall::Kind kind) const {
    absl::MutexLock lock(&mutex_);
    return calls_[static_cast<size_t>(kind)];
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<const FaultRule> rule_ ABSL_GUARDED_BY(mutex_) = std::make_shared<const FaultRule>();
  std::array<uint64_t, kKinds> calls_ ABSL_GUARDED_BY(mutex_) = {};
};

class FaultyDevice::FaultyTarget : public Target {
 public:
  FaultyTarget(std::unique_ptr<Target> target, std::shared_ptr<Faults> faults)
      : target_(std::move(target)), faults_(std::move(faults)) {}

  Target& inner() { return *target_; }

  uint64_t bytes() const override { return target_->bytes(); }
  uint64_t prepared_bytes() const override { return target_->prepared_bytes(); }
  bool slow_to_prepare() const override { return target_->slow_to_prepare(); }
  uint64_t device_address() const override { return target_->device_address(); }
  char* host_data() override { return target_->host_data(); }

  absl::Status Prepare(ByteRange range) override {
    absl::Status fault = faults_->Decide(DeviceCall::Kind::kPrepare, range);
    return fault.ok() ? target_->Prepare(range) : fault;
  }

  absl::Status Sync() override {
    absl::Status fault = faults_->Decide(DeviceCall::Kind::kSync, {});
    return fault.ok() ? target_->Sync() : fault;
  }

 private:
  const std::unique_ptr<Target> target_;
  const std::shared_ptr<Faults> faults_;
};

FaultyDevice::FaultyDevice(std::unique_ptr<Device> device)
    : faults_(std::make_shared<Faults>()), device_(std::move(device)) {}

FaultyDevice::~FaultyDevice() = default;

void FaultyDevice::SetRule(FaultRule rule) { faults_->SetRule(std::move(rule)); }

uint64_t FaultyDevice::Calls(DeviceCall::Kind kind) const { return faults_->Calls(kind); }

std::string FaultyDevice::name() const { return device_->name(); }

bool FaultyDevice::needs_staging() const { return device_->needs_staging(); }

bool FaultyDevice::keeps_files() const { return device_->keeps_files(); }

absl::StatusOr<std::unique_ptr<Target>> FaultyDevice::CreateTarget(const TargetSpec& spec) {
  if (absl::Status fault = faults_->Decide(DeviceCall::Kind::kCreateTarget, {0, spec.bytes}); !fault.ok()) return fault;
  absl::StatusOr<std::unique_ptr<Target>> target = device_->CreateTarget(spec);
  if (!target.ok()) return target.status();
  return std::make_unique<FaultyTarget>(*std::move(target), faults_);
}

uint64_t FaultyDevice::TargetFootprint(uint64_t bytes) const { return device_->TargetFootprint(bytes); }

absl::StatusOr<uint64_t> FaultyDevice::FreeBytes() { return device_->FreeBytes(); }

absl::Status FaultyDevice::PrepareToCast() { return device_->PrepareToCast(); }

absl::StatusOr<std::unique_ptr<PinnedMemory>> FaultyDevice::AllocatePinned(uint64_t bytes) {
  if (absl::Status fault = faults_->Decide(DeviceCall::Kind::kAllocatePinned, {0, bytes}); !fault.ok()) return fault;
  return device_->AllocatePinned(bytes);
}

void FaultyDevice::CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) {
  // Every target that this device made is a FaultyTarget.
  Target& inner = static_cast<FaultyTarget&>(target).inner();
  absl::Status fault = faults_->Decide(DeviceCall::Kind::kCopyToTarget, {offset, offset + staged.size()});
  if (fault.ok()) return device_->CopyToTarget(staged, inner, offset, std::move(done));
  device_->CopyToTarget(absl::string_view(), inner, /*offset=*/0,
                        [fault = std::move(fault), done = std::move(done)](absl::Status) { done(fault); });
}

void FaultyDevice::CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset,
                                CopyDone done) {
  Target& inner = static_cast<FaultyTarget&>(target).inner();
  absl::Status fault = faults_->Decide(DeviceCall::Kind::kCopyToTarget, {offset, offset + staged.size()});
  if (fault.ok()) return device_->CastToTarget(cast, staged, inner, offset, std::move(done));
  device_->CopyToTarget(absl::string_view(), inner, /*offset=*/0,
                        [fault = std::move(fault), done = std::move(done)](absl::Status) { done(fault); });
}

absl::Status FaultyDevice::ReadTarget(Target& target, ByteRange range, char* destination) {
  absl::Status fault = faults_->Decide(DeviceCall::Kind::kReadTarget, range);
  if (!fault.ok()) return fault;
  return device_->ReadTarget(static_cast<FaultyTarget&>(target).inner(), range, destination);
}

absl::StatusOr<std::vector<uint32_t>> FaultyDevice::DigestTarget(Target& target, ByteRange range,
                                                                 uint64_t block_bytes) {
  absl::Status fault = faults_->Decide(DeviceCall::Kind::kDigestTarget, range);
  if (!fault.ok()) return fault;
  return device_->DigestTarget(static_cast<FaultyTarget&>(target).inner(), range, block_bytes);
}

absl::StatusOr<SharedMemory> FaultyDevice::Export(Target& target) {
  return device_->Export(static_cast<FaultyTarget&>(target).inner());
}

absl::StatusOr<std::unique_ptr<Target>> FaultyDevice::Open(const SharedMemory& shared) {
  absl::StatusOr<std::unique_ptr<Target>> target = device_->Open(shared);
  if (!target.ok()) return target.status();
  return std::make_unique<FaultyTarget>(*std::move(target), faults_);
}

absl::Status FaultyDevice::Health() const {
  absl::Status fault = faults_->Decide(DeviceCall::Kind::kHealth, {});
  return fault.ok() ? device_->Health() : fault;
}

}  // namespace weightstream
