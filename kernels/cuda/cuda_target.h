// A target in device memory: a part of an allocation, ours or one that another process registered.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_CUDA_TARGET_H_
#define WEIGHTSTREAM_KERNELS_CUDA_CUDA_TARGET_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/device.h"

namespace weightstream {

// Thread-safe. All of its memory is there from the start, so there is nothing to prepare.
class CudaTarget : public Target {
 public:
  // Requires begin + bytes within the memory.
  CudaTarget(std::shared_ptr<CudaContext> context, std::unique_ptr<CudaMemory> memory, uint64_t begin, uint64_t bytes)
      : context_(std::move(context)), memory_(std::move(memory)), begin_(begin), bytes_(bytes) {}

  uint64_t bytes() const override { return bytes_; }
  absl::Status Prepare(ByteRange range) override { return CheckInside(range, "prepare"); }
  uint64_t prepared_bytes() const override { return bytes_; }
  bool slow_to_prepare() const override { return false; }
  uint64_t device_address() const override {
    return memory_->opened() ? static_cast<uint64_t>(reinterpret_cast<uintptr_t>(At(0))) : 0;
  }
  char* host_data() override { return nullptr; }
  // The medium is device memory, where what has landed is as durable as it gets: unless the device has failed.
  absl::Status Sync() override { return context_->Health(); }

  // INTERNAL, for a mistake of the program above, if `range` leaves the target.
  absl::Status CheckInside(ByteRange range, absl::string_view action) const;

  const CudaContext* context() const { return context_.get(); }
  const CudaMemory& memory() const { return *memory_; }
  // The device's address of byte `offset`.
  char* At(uint64_t offset) const { return memory_->data() + begin_ + offset; }

 private:
  const std::shared_ptr<CudaContext> context_;
  const std::unique_ptr<CudaMemory> memory_;
  const uint64_t begin_;
  const uint64_t bytes_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_CUDA_TARGET_H_
