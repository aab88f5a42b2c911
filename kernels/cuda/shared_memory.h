// Device memory shared with other processes of this machine, by CUDA's IPC handles: ours given out, theirs taken in.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_
#define WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_target.h"
#include "kernels/device.h"

namespace weightstream {

// Names a target's memory. The receiver must close the handle before the target goes. FAILED_PRECONDITION for memory
// that is another process's already, or none.
absl::StatusOr<SharedMemory> ExportTarget(CudaContext& context, const CudaTarget& target);

// Opens memory that another process owns, as a target that is written in place; closed with the target. The owner must
// keep the memory until then. INVALID_ARGUMENT, saying what is wrong: a handle of another length or of garbage, another
// device, a range that leaves the allocation or is empty.
absl::StatusOr<std::unique_ptr<CudaTarget>> OpenShared(std::shared_ptr<CudaContext> context,
                                                       const SharedMemory& shared);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_SHARED_MEMORY_H_
