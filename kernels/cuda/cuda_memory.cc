#include "kernels/cuda/cuda_memory.h"

#include <limits>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

// The driver hands out memory in pieces of this size. An allocation of whole pieces shares none with another, so that
// an IPC handle of it shows nothing else to whoever opens it.
constexpr uint64_t kPieceBytes = 2 << 20;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kMostBytes = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2;

absl::Status NoDeviceMemory(CudaContext& context, uint64_t bytes, absl::string_view purpose) {
  uint64_t free = 0;
  uint64_t total = 0;
  const absl::Status asked = context.Check(context.runtime().MemGetInfo(&free, &total), "cudaMemGetInfo");
  const std::string room =
      asked.ok() ? absl::StrCat("where ", free, " of ", total, " are free") : std::string(asked.message());
  return absl::ResourceExhaustedError(
      absl::StrCat(context.name(), ": no ", bytes, " bytes of device memory for ", purpose, ", ", room,
                   "; keep fewer versions (--keep-versions), or give the inference server less of the device"));
}

class CudaPinned : public PinnedMemory {
 public:
  CudaPinned(std::shared_ptr<CudaContext> context, char* allocated, uint64_t bytes)
      : context_(std::move(context)), allocated_(allocated), bytes_(bytes) {}
  ~CudaPinned() override {
    // A failed device's process can free nothing any more, and ends soon: there is nobody to tell.
    static_cast<void>(context_->Check(context_->runtime().FreeHost(allocated_), "cudaFreeHost"));
  }

  char* data() override {
    const auto address = reinterpret_cast<uintptr_t>(allocated_);
    return allocated_ + (kPageBytes - address % kPageBytes) % kPageBytes;
  }
  uint64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<CudaContext> context_;
  // May start anywhere: CUDA promises no alignment, so there is a page more than was asked for.
  char* const allocated_;
  const uint64_t bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaMemory>> CudaMemory::Allocate(std::shared_ptr<CudaContext> context, uint64_t bytes,
                                                                 absl::string_view purpose) {
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  if (bytes == 0) return absl::WrapUnique(new CudaMemory(std::move(context), nullptr, /*opened=*/false));
  if (bytes > kMostBytes) return NoDeviceMemory(*context, bytes, purpose);
  const uint64_t rounded = Footprint(bytes);
  char* data = nullptr;
  const CudaError error = context->runtime().Malloc(rounded, &data);
  const absl::Status allocated = context->Check(error, absl::StrCat("cudaMalloc of ", rounded, " bytes"));
  if (error == kCudaMemoryAllocation) return NoDeviceMemory(*context, bytes, purpose);
  if (!allocated.ok()) return allocated;
  return absl::WrapUnique(new CudaMemory(std::move(context), data, /*opened=*/false));
}

uint64_t CudaMemory::Footprint(uint64_t bytes) {
  // What does not fit any device need not be rounded, and could wrap around.
  return bytes > kMostBytes ? bytes : (bytes + kPieceBytes - 1) / kPieceBytes * kPieceBytes;
}

absl::StatusOr<uint64_t> CudaMemory::FreeBytes(CudaContext& context) {
  if (absl::Status entered = context.Enter(); !entered.ok()) return entered;
  uint64_t free = 0;
  uint64_t total = 0;
  absl::Status asked = context.Check(context.runtime().MemGetInfo(&free, &total), "cudaMemGetInfo");
  if (!asked.ok()) return asked;
  return free;
}

std::unique_ptr<CudaMemory> CudaMemory::AdoptOpened(std::shared_ptr<CudaContext> context, char* data) {
  return absl::WrapUnique(new CudaMemory(std::move(context), data, /*opened=*/true));
}

CudaMemory::~CudaMemory() {
  if (data_ == nullptr) return;
  // As for pinned memory: errors here mark the device failed if they are sticky, and nobody else is to be told.
  CudaRuntime& runtime = context_->runtime();
  static_cast<void>(context_->Enter());
  static_cast<void>(opened_ ? context_->Check(runtime.IpcCloseMemHandle(data_), "cudaIpcCloseMemHandle")
                            : context_->Check(runtime.Free(data_), "cudaFree"));
}

absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocateCudaPinned(std::shared_ptr<CudaContext> context, uint64_t bytes) {
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  const auto no_memory = [&] {
    return absl::ResourceExhaustedError(
        absl::StrCat(context->name(), ": the host has no ", bytes,
                     " bytes of memory to lock for staging; set --staging-mib lower, or look at the memory limit"));
  };
  if (bytes > kMostBytes) return no_memory();
  char* allocated = nullptr;
  const CudaError error = context->runtime().HostAlloc(bytes + kPageBytes, &allocated);
  const absl::Status status = context->Check(error, absl::StrCat("cudaHostAlloc of ", bytes, " bytes"));
  if (error == kCudaMemoryAllocation) return no_memory();
  if (!status.ok()) return status;
  return std::make_unique<CudaPinned>(std::move(context), allocated, bytes);
}

}  // namespace weightstream
