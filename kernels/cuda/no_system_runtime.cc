// What is linked where the build found no CUDA toolkit.
#include "kernels/cuda/system_runtime.h"

namespace weightstream {

CudaRuntime* SystemCudaRuntime() { return nullptr; }

}  // namespace weightstream
