// Launches of the kernels, for system_runtime.cu alone: everybody else goes through CudaRuntime, whose comments say
// what they do. They return as soon as the work is queued. Any thread.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_KERNELS_H_
#define WEIGHTSTREAM_KERNELS_CUDA_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cast_element.h"

namespace weightstream {

cudaError_t CastOnDevice(FloatCast cast, const char* source, char* destination, uint64_t elements, cudaStream_t stream);

cudaError_t DigestSegmentsOnDevice(const char* memory, uint64_t bytes, uint32_t* remainders, cudaStream_t stream);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_KERNELS_H_
