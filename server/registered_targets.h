// Memory that an inference server owns and has registered: where each tensor of its model is to be written, in place.
//
//   RegisteredTargets::Open    opens what was registered, and trusts none of it
//   BoundTargets::Bind         ... for the manifest of one version: what a chunk's bytes become, and where they go
#ifndef WEIGHTSTREAM_SERVER_REGISTERED_TARGETS_H_
#define WEIGHTSTREAM_SERVER_REGISTERED_TARGETS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "kernels/device.h"
#include "server/range_tracker.h"
#include "tensor/safetensors_layout.h"
#include "tensor/spec.h"
#include "tensor/tensor_slice.h"

namespace weightstream {

// Where an inference server holds a tensor, or a part of it.
struct TargetTensor {
  // The name and shape of the whole tensor, as in the manifest; the dtype that the target holds.
  TensorSpec spec;
  // The part that it holds; all of it if absent.
  absl::optional<TensorSlice> slice;
  // Which memory, and where in it, in bytes.
  uint32_t memory = 0;
  uint64_t offset = 0;
};

struct TargetRegistration {
  // For messages.
  std::string owner;
  std::vector<SharedMemory> memory;
  std::vector<TargetTensor> tensors;
  // Tensors of the model that are not named here are dropped as they arrive; else there must be none.
  bool partial = false;
};

// A target's bytes, by their addresses on the device.
struct PlacedTarget {
  ByteRange range;
  const TargetTensor* tensor;
};

// The memory, open. Closed with the last who holds this: updates and versions do, as long as they write or read there.
// Immutable.
class RegisteredTargets {
 public:
  // INVALID_ARGUMENT, naming the tensor or the memory, for what the device refuses (Device::Open), for a tensor twice,
  // a slice that is none, a target that leaves its memory, is not aligned for its dtype or overlaps another.
  static absl::StatusOr<std::shared_ptr<const RegisteredTargets>> Open(Device& device, TargetRegistration registration);

  const std::string& owner() const { return registration_.owner; }
  const std::vector<TargetTensor>& tensors() const { return registration_.tensors; }
  bool partial() const { return registration_.partial; }
  // Of all targets together.
  uint64_t bytes() const { return bytes_; }
  // Where each of them lies that has any bytes, by their begin.
  const std::vector<PlacedTarget>& places() const { return places_; }
  Device& device() const { return device_; }
  // Expires once all of the memory is closed: later than this object, whose end closes it.
  std::weak_ptr<const void> open() const { return open_; }
  Target& memory(uint32_t index) const { return *memory_[index]; }

 private:
  RegisteredTargets(Device& device, TargetRegistration registration)
      : device_(device), registration_(std::move(registration)) {}

  absl::Status OpenMemory();
  absl::Status CheckTensors();

  Device& device_;
  const TargetRegistration registration_;
  // Before the memory, so that it goes after that.
  const std::shared_ptr<const void> open_ = std::make_shared<char>();
  std::vector<std::unique_ptr<Target>> memory_;
  uint64_t bytes_ = 0;
  std::vector<PlacedTarget> places_;
};

// The bytes that are held of a tensor: of it as it was pushed, or what a registered target made of it.
struct HeldTensor {
  // False if no target has any of it.
  bool held = true;
  // What each element is held as.
  DType dtype = DType::kU8;
  // The part that is held; all of it if absent.
  absl::optional<TensorSlice> slice = absl::nullopt;
  uint64_t bytes = 0;
};

// The targets of one version. A Target in that an update can hold it as its own; it has no memory of one piece.
class BoundTargets final : public Target {
 public:
  // INVALID_ARGUMENT, naming the tensor, if a target's shape contradicts the manifest, or its dtype does and there is
  // no cast; if a target's tensor is not in the manifest; or, unless partial, the other way round. RESOURCE_EXHAUSTED
  // if the device has no memory to cast with.
  static absl::StatusOr<std::shared_ptr<BoundTargets>> Bind(std::shared_ptr<const RegisteredTargets> targets,
                                                            const SafetensorsLayout& layout);

  // What is to be copied for a range of a tensor.
  struct Write {
    // Null if no target has any of it.
    Target* target = nullptr;
    uint64_t offset = 0;
    // How many bytes from the start of the staged ones.
    uint64_t bytes = 0;
    // How they are to be cast on the way.
    absl::optional<FloatCast> cast;
  };
  // `staged` are the bytes of this range: moves what the target holds of them to their start. INVALID_ARGUMENT if they
  // are to be cast and are not whole elements.
  absl::StatusOr<Write> Place(const SafetensorsLayout& layout, const TensorRange& range, char* staged) const;

  // How the tensor of this index is held.
  HeldTensor HowHeld(const SafetensorsLayout& layout, uint32_t tensor) const;

  // FAILED_PRECONDITION, naming the tensor, if its target holds only a part of it, or another dtype, or there is none.
  absl::Status CheckReadable(const SafetensorsLayout& layout, uint32_t tensor) const;

  // What is now in the target of a range of a tensor. Errors as CheckReadable.
  absl::Status Read(const SafetensorsLayout& layout, const TensorRange& range, char* destination) const;
  // Of a range of the bytes that the target has. Requires that there is one.
  absl::StatusOr<std::vector<uint32_t>> Digest(uint32_t tensor, ByteRange held, uint64_t block_bytes) const;

  const RegisteredTargets& registered() const { return *targets_; }

  uint64_t bytes() const override { return data_bytes_; }
  absl::Status Prepare(ByteRange range) override { return absl::OkStatus(); }
  uint64_t prepared_bytes() const override { return data_bytes_; }
  bool slow_to_prepare() const override { return false; }
  char* host_data() override { return nullptr; }
  absl::Status Sync() override { return targets_->device().Health(); }

 private:
  // How a tensor of the layout is held.
  struct Part {
    const TargetTensor* target;
    SliceMap map;
    absl::optional<FloatCast> cast;
  };

  BoundTargets(std::shared_ptr<const RegisteredTargets> targets, const SafetensorsLayout& layout)
      : targets_(std::move(targets)), data_bytes_(layout.data_bytes), parts_(layout.tensors.size()) {}

  absl::Status BindTensor(const TargetTensor& target, const SafetensorsLayout& layout);

  const std::shared_ptr<const RegisteredTargets> targets_;
  const uint64_t data_bytes_;
  // By the tensor's index in the layout.
  std::vector<absl::optional<Part>> parts_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_REGISTERED_TARGETS_H_
