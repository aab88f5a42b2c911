// The values of cudaError_t that somebody here decides by. system_runtime.cu holds them to CUDA's own. nvcc reads this
// too: C++17, and nothing of ours but runtime.h.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_ERROR_CODES_H_
#define WEIGHTSTREAM_KERNELS_CUDA_ERROR_CODES_H_

#include "kernels/cuda/runtime.h"

namespace weightstream {

inline constexpr CudaError kCudaSuccess = 0;
inline constexpr CudaError kCudaInvalidValue = 1;
inline constexpr CudaError kCudaMemoryAllocation = 2;
inline constexpr CudaError kCudaInsufficientDriver = 35;
inline constexpr CudaError kCudaDevicesUnavailable = 46;
inline constexpr CudaError kCudaNoDevice = 100;
inline constexpr CudaError kCudaInvalidDevice = 101;
inline constexpr CudaError kCudaDeviceUninitialized = 201;
inline constexpr CudaError kCudaMapBufferObjectFailed = 205;
inline constexpr CudaError kCudaEccUncorrectable = 214;
inline constexpr CudaError kCudaNvlinkUncorrectable = 220;
inline constexpr CudaError kCudaContained = 226;
inline constexpr CudaError kCudaInvalidResourceHandle = 400;
inline constexpr CudaError kCudaNotReady = 600;
inline constexpr CudaError kCudaIllegalAddress = 700;
inline constexpr CudaError kCudaLaunchTimeout = 702;
inline constexpr CudaError kCudaContextIsDestroyed = 709;
inline constexpr CudaError kCudaAssert = 710;
inline constexpr CudaError kCudaHardwareStackError = 714;
inline constexpr CudaError kCudaIllegalInstruction = 715;
inline constexpr CudaError kCudaMisalignedAddress = 716;
inline constexpr CudaError kCudaInvalidAddressSpace = 717;
inline constexpr CudaError kCudaInvalidPc = 718;
inline constexpr CudaError kCudaLaunchFailure = 719;
inline constexpr CudaError kCudaExternalDevice = 911;
inline constexpr CudaError kCudaUnknown = 999;

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_ERROR_CODES_H_
