// Errors of CUDA calls as absl::Status, and which of them a device does not recover from. Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_CUDA_ERROR_H_
#define WEIGHTSTREAM_KERNELS_CUDA_CUDA_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/error_codes.h"
#include "kernels/cuda/runtime.h"

namespace weightstream {

// True for errors that every later call in this process returns again: only a new process can use the device.
bool IsStickyCudaError(CudaError error);

// "cuda:0: CALL failed: TEXT (NAME, code N)", for an error of `call` ("cudaMemcpyAsync of 4096 bytes to the device").
// RESOURCE_EXHAUSTED for a lack of memory, INTERNAL for the rest; for a sticky error with what to do. OK for success.
absl::Status CudaStatus(CudaRuntime& runtime, CudaError error, absl::string_view device, absl::string_view call);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_CUDA_ERROR_H_
