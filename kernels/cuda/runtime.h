// The calls of the CUDA runtime that this room uses, as an interface: what is built on it needs neither CUDA's headers
// nor a toolkit, and a test can put a faithful fake in its place (fake_runtime.h) and make every call fail.
//
// This header includes nothing but the standard library and is C++17: nvcc reads it too.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_RUNTIME_H_
#define WEIGHTSTREAM_KERNELS_CUDA_RUNTIME_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cast_element.h"

namespace weightstream {

// A value of cudaError_t; 0 is success. Those that somebody here decides by are in cuda_error.h.
using CudaError = int;

// A cudaStream_t and a cudaEvent_t.
using CudaStreamHandle = void*;
using CudaEventHandle = void*;

// A cudaIpcMemHandle_t: names one allocation to other processes of the same machine.
using CudaIpcHandle = std::array<char, 64>;

struct CudaDeviceInfo {
  std::array<char, 256> name{};
  std::array<unsigned char, 16> uuid{};
  int compute_major = 0;
  int compute_minor = 0;
};

// Each function is the runtime's of the same name (cudaMalloc, ...), and has its meaning: see the CUDA Runtime API's
// manual. Memory is allocated on, and streams and events belong to, the device that the calling thread has set with
// SetDevice. Thread-safe.
class CudaRuntime {
 public:
  virtual ~CudaRuntime() = default;

  // 1000 * major + 10 * minor of the newest CUDA that the installed driver knows, 0 if there is no driver.
  virtual CudaError DriverGetVersion(int* version) = 0;
  // The same of this runtime.
  virtual CudaError RuntimeGetVersion(int* version) = 0;
  virtual CudaError GetDeviceCount(int* count) = 0;
  virtual CudaError GetDeviceInfo(int device, CudaDeviceInfo* info) = 0;
  virtual CudaError SetDevice(int device) = 0;

  virtual CudaError MemGetInfo(uint64_t* free_bytes, uint64_t* total_bytes) = 0;
  virtual CudaError Malloc(uint64_t bytes, char** memory) = 0;
  virtual CudaError Free(char* memory) = 0;
  // Page-locked and portable: pinned for every device.
  virtual CudaError HostAlloc(uint64_t bytes, char** memory) = 0;
  virtual CudaError FreeHost(char* memory) = 0;

  // Non-blocking: does not wait for the legacy default stream.
  virtual CudaError StreamCreate(CudaStreamHandle* stream) = 0;
  virtual CudaError StreamDestroy(CudaStreamHandle stream) = 0;
  virtual CudaError StreamSynchronize(CudaStreamHandle stream) = 0;
  // Without timing, which makes recording dearer.
  virtual CudaError EventCreate(CudaEventHandle* event) = 0;
  virtual CudaError EventDestroy(CudaEventHandle event) = 0;
  virtual CudaError EventRecord(CudaEventHandle event, CudaStreamHandle stream) = 0;
  // cudaErrorNotReady while the stream has not come to the record.
  virtual CudaError EventQuery(CudaEventHandle event) = 0;

  virtual CudaError CopyToDevice(char* device_memory, const char* host_memory, uint64_t bytes,
                                 CudaStreamHandle stream) = 0;
  virtual CudaError CopyToHost(char* host_memory, const char* device_memory, uint64_t bytes,
                               CudaStreamHandle stream) = 0;
  // Within the device's memory: how fast that is. The two must not overlap.
  virtual CudaError CopyOnDevice(char* destination, const char* source, uint64_t bytes, CudaStreamHandle stream) = 0;

  virtual CudaError IpcGetMemHandle(CudaIpcHandle* handle, char* memory) = 0;
  // Of the start of the allocation. Not in the process that exported it.
  virtual CudaError IpcOpenMemHandle(const CudaIpcHandle& handle, char** memory) = 0;
  virtual CudaError IpcCloseMemHandle(char* memory) = 0;
  // cudaPointerGetAttributes: the index of the device on which the memory is that `memory` points into.
  virtual CudaError PointerDevice(const char* memory, int* device) = 0;
  // The allocation that `memory` points into (the driver's cuMemGetAddressRange).
  virtual CudaError GetAddressRange(char* memory, char** base, uint64_t* bytes) = 0;

  // Forgets the last error of this thread, if it is one that can be forgotten.
  virtual void ClearLastError() = 0;
  // "cudaErrorInvalidValue", and "invalid argument". They live for ever.
  virtual const char* ErrorName(CudaError error) = 0;
  virtual const char* ErrorText(CudaError error) = 0;

  // ---- Our kernels (kernels.cu), each with a CPU twin ----

  // Casts `elements` elements of device memory: CastElements of kernels/cast.h.
  virtual CudaError Cast(FloatCast cast, const char* source, char* destination, uint64_t elements,
                         CudaStreamHandle stream) = 0;
  // Writes to remainders[i] the remainder of segment i of `bytes` bytes of device memory: SegmentRemainder of
  // kernels/digest.h. `remainders` is device memory, for DigestSegmentCount(bytes) of them.
  virtual CudaError DigestSegments(const char* memory, uint64_t bytes, uint32_t* remainders,
                                   CudaStreamHandle stream) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_RUNTIME_H_
