// Memory of a CUDA device and page-locked memory of the host, freed on destruction.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_CUDA_MEMORY_H_
#define WEIGHTSTREAM_KERNELS_CUDA_CUDA_MEMORY_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/device.h"

namespace weightstream {

// Device memory, ours or another process's. Thread-safe. It must outlive the copies from and to it.
class CudaMemory {
 public:
  // `bytes` of fresh device memory, its content undefined, its start aligned to 256; `purpose` is for the message.
  // RESOURCE_EXHAUSTED, with what was asked and what is free.
  static absl::StatusOr<std::unique_ptr<CudaMemory>> Allocate(std::shared_ptr<CudaContext> context, uint64_t bytes,
                                                              absl::string_view purpose);

  // What Allocate takes of the device for so many bytes.
  static uint64_t Footprint(uint64_t bytes);
  // What cudaMalloc may still give, to whichever process asks first.
  static absl::StatusOr<uint64_t> FreeBytes(CudaContext& context);

  // Takes over what IpcOpenMemHandle gave, to be closed.
  static std::unique_ptr<CudaMemory> AdoptOpened(std::shared_ptr<CudaContext> context, char* data);

  ~CudaMemory();
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  // An address of the device; null if there are no bytes.
  char* data() const { return data_; }
  // True if another process owns it.
  bool opened() const { return opened_; }

 private:
  CudaMemory(std::shared_ptr<CudaContext> context, char* data, bool opened)
      : context_(std::move(context)), data_(data), opened_(opened) {}

  const std::shared_ptr<CudaContext> context_;
  char* const data_;
  const bool opened_;
};

// Page-locked and portable, starting on a page. RESOURCE_EXHAUSTED where the host has no more to lock.
absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocateCudaPinned(std::shared_ptr<CudaContext> context, uint64_t bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_CUDA_MEMORY_H_
