#include "kernels/cuda/cuda_error.h"

#include "absl/strings/str_cat.h"

namespace weightstream {

bool IsStickyCudaError(CudaError error) {
  switch (error) {
    case kCudaEccUncorrectable:
    case kCudaNvlinkUncorrectable:
    case kCudaContained:
    case kCudaIllegalAddress:
    case kCudaLaunchTimeout:
    case kCudaContextIsDestroyed:
    case kCudaAssert:
    case kCudaHardwareStackError:
    case kCudaIllegalInstruction:
    case kCudaMisalignedAddress:
    case kCudaInvalidAddressSpace:
    case kCudaInvalidPc:
    case kCudaLaunchFailure:
    case kCudaExternalDevice:
    case kCudaUnknown:
      return true;
    default:
      return false;
  }
}

absl::Status CudaStatus(CudaRuntime& runtime, CudaError error, absl::string_view device, absl::string_view call) {
  if (error == kCudaSuccess) return absl::OkStatus();
  std::string message = absl::StrCat(device, ": ", call, " failed: ", runtime.ErrorText(error), " (",
                                     runtime.ErrorName(error), ", code ", error, ")");
  if (IsStickyCudaError(error)) {
    absl::StrAppend(&message,
                    "; the device cannot be used any more by this process: restart the server, and if it "
                    "comes again look for NVIDIA's Xid messages in the kernel log");
  }
  return error == kCudaMemoryAllocation ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

}  // namespace weightstream
