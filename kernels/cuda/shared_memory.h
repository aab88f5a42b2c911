// Device memory shared with other processes of this machine, by CUDA's IPC handles: ours given out, theirs taken in.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_
#define WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_target.h"

namespace weightstream {

// A range of one allocation, as it is told to another process. What comes from outside is not to be trusted in any
// part.
struct SharedCudaMemory {
  // A cudaIpcMemHandle_t: 64 bytes that name the whole allocation.
  std::string handle;
  // The device's 16 bytes, as the CUDA runtime has them. Indices differ between processes (CUDA_VISIBLE_DEVICES).
  std::string device_uuid;
  // Where in the allocation the range starts, and its size.
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Names a target's memory. The receiver must close the handle before the target goes. FAILED_PRECONDITION for memory
// that is another process's already, or none.
absl::StatusOr<SharedCudaMemory> ExportTarget(CudaContext& context, const CudaTarget& target);

// Opens memory that another process owns, as a target that is written in place; closed with the target. The owner must
// keep the memory until then. INVALID_ARGUMENT, saying what is wrong: a handle of another length or of garbage, another
// device, a range that leaves the allocation or is empty.
absl::StatusOr<std::unique_ptr<CudaTarget>> OpenShared(std::shared_ptr<CudaContext> context,
                                                       const SharedCudaMemory& shared);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_
