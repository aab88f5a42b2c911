// The CUDA runtime of this machine.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_SYSTEM_RUNTIME_H_
#define WEIGHTSTREAM_KERNELS_CUDA_SYSTEM_RUNTIME_H_

#include "kernels/cuda/runtime.h"

namespace weightstream {

// The runtime that is linked into this binary, or null if it was built without CUDA. It needs no driver to be there:
// its calls say so. Lives for ever. Any thread. nvcc reads this header too.
CudaRuntime* SystemCudaRuntime();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_SYSTEM_RUNTIME_H_
