// The CUDA runtime behind CudaRuntime: one call each.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/error_codes.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/system_runtime.h"

namespace weightstream {
namespace {

static_assert(kCudaInvalidValue == cudaErrorInvalidValue);
static_assert(kCudaMemoryAllocation == cudaErrorMemoryAllocation);
static_assert(kCudaInsufficientDriver == cudaErrorInsufficientDriver);
static_assert(kCudaDevicesUnavailable == cudaErrorDevicesUnavailable);
static_assert(kCudaNoDevice == cudaErrorNoDevice);
static_assert(kCudaInvalidDevice == cudaErrorInvalidDevice);
static_assert(kCudaDeviceUninitialized == cudaErrorDeviceUninitialized);
static_assert(kCudaMapBufferObjectFailed == cudaErrorMapBufferObjectFailed);
static_assert(kCudaEccUncorrectable == cudaErrorECCUncorrectable);
static_assert(kCudaNvlinkUncorrectable == cudaErrorNvlinkUncorrectable);
#if CUDART_VERSION >= 13000
static_assert(kCudaContained == cudaErrorContained);
#endif
static_assert(kCudaInvalidResourceHandle == cudaErrorInvalidResourceHandle);
static_assert(kCudaNotReady == cudaErrorNotReady);
static_assert(kCudaIllegalAddress == cudaErrorIllegalAddress);
static_assert(kCudaLaunchTimeout == cudaErrorLaunchTimeout);
static_assert(kCudaContextIsDestroyed == cudaErrorContextIsDestroyed);
static_assert(kCudaAssert == cudaErrorAssert);
static_assert(kCudaHardwareStackError == cudaErrorHardwareStackError);
static_assert(kCudaIllegalInstruction == cudaErrorIllegalInstruction);
static_assert(kCudaMisalignedAddress == cudaErrorMisalignedAddress);
static_assert(kCudaInvalidAddressSpace == cudaErrorInvalidAddressSpace);
static_assert(kCudaInvalidPc == cudaErrorInvalidPc);
static_assert(kCudaLaunchFailure == cudaErrorLaunchFailure);
static_assert(kCudaExternalDevice == cudaErrorExternalDevice);
static_assert(kCudaUnknown == cudaErrorUnknown);
static_assert(sizeof(CudaIpcHandle) == sizeof(cudaIpcMemHandle_t));

cudaStream_t AsStream(CudaStreamHandle stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t AsEvent(CudaEventHandle event) { return static_cast<cudaEvent_t>(event); }

class SystemRuntime final : public CudaRuntime {
 public:
  CudaError DriverGetVersion(int* version) override { return cudaDriverGetVersion(version); }
  CudaError RuntimeGetVersion(int* version) override { return cudaRuntimeGetVersion(version); }
  CudaError GetDeviceCount(int* count) override { return cudaGetDeviceCount(count); }
  CudaError SetDevice(int device) override { return cudaSetDevice(device); }

  CudaError GetDeviceInfo(int device, CudaDeviceInfo* info) override {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) return error;
    std::memcpy(info->name.data(), properties.name, std::min(info->name.size(), sizeof(properties.name)));
    info->name.back() = '\0';
    std::memcpy(info->uuid.data(), properties.uuid.bytes, info->uuid.size());
    info->compute_major = properties.major;
    info->compute_minor = properties.minor;
    return error;
  }

  CudaError MemGetInfo(uint64_t* free_bytes, uint64_t* total_bytes) override {
    size_t free = 0;
    size_t total = 0;
    const cudaError_t error = cudaMemGetInfo(&free, &total);
    *free_bytes = free;
    *total_bytes = total;
    return error;
  }

  CudaError Malloc(uint64_t bytes, char** memory) override {
    return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
  }
  CudaError Free(char* memory) override { return cudaFree(memory); }
  CudaError HostAlloc(uint64_t bytes, char** memory) override {
    return cudaHostAlloc(reinterpret_cast<void**>(memory), bytes, cudaHostAllocPortable);
  }
  CudaError FreeHost(char* memory) override { return cudaFreeHost(memory); }

  CudaError StreamCreate(CudaStreamHandle* stream) override {
    return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
  }
  CudaError StreamDestroy(CudaStreamHandle stream) override { return cudaStreamDestroy(AsStream(stream)); }
  CudaError StreamSynchronize(CudaStreamHandle stream) override { return cudaStreamSynchronize(AsStream(stream)); }
  CudaError EventCreate(CudaEventHandle* event) override {
    return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventDisableTiming);
  }
  CudaError EventDestroy(CudaEventHandle event) override { return cudaEventDestroy(AsEvent(event)); }
  CudaError EventRecord(CudaEventHandle event, CudaStreamHandle stream) override {
    return cudaEventRecord(AsEvent(event), AsStream(stream));
  }
  CudaError EventQuery(CudaEventHandle event) override { return cudaEventQuery(AsEvent(event)); }

  CudaError CopyToDevice(char* device_memory, const char* host_memory, uint64_t bytes,
                         CudaStreamHandle stream) override {
    return cudaMemcpyAsync(device_memory, host_memory, bytes, cudaMemcpyHostToDevice, AsStream(stream));
  }
  CudaError CopyToHost(char* host_memory, const char* device_memory, uint64_t bytes, CudaStreamHandle stream) override {
    return cudaMemcpyAsync(host_memory, device_memory, bytes, cudaMemcpyDeviceToHost, AsStream(stream));
  }
  CudaError CopyOnDevice(char* destination, const char* source, uint64_t bytes, CudaStreamHandle stream) override {
    return cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToDevice, AsStream(stream));
  }

  CudaError IpcGetMemHandle(CudaIpcHandle* handle, char* memory) override {
    cudaIpcMemHandle_t system_handle;
    const cudaError_t error = cudaIpcGetMemHandle(&system_handle, memory);
    if (error == cudaSuccess) std::memcpy(handle->data(), &system_handle, sizeof(system_handle));
    return error;
  }
  CudaError IpcOpenMemHandle(const CudaIpcHandle& handle, char** memory) override {
    cudaIpcMemHandle_t system_handle;
    std::memcpy(&system_handle, handle.data(), sizeof(system_handle));
    return cudaIpcOpenMemHandle(reinterpret_cast<void**>(memory), system_handle, cudaIpcMemLazyEnablePeerAccess);
  }
  CudaError IpcCloseMemHandle(char* memory) override { return cudaIpcCloseMemHandle(memory); }

  CudaError PointerDevice(const char* memory, int* device) override {
    cudaPointerAttributes attributes;
    const cudaError_t error = cudaPointerGetAttributes(&attributes, memory);
    if (error != cudaSuccess) return error;
    *device = attributes.device;
    // Anything else (host or managed memory) has no handle that could have been opened.
    return attributes.type == cudaMemoryTypeDevice ? cudaSuccess : cudaErrorInvalidValue;
  }

  // The runtime has no such call of its own, and the driver is not linked: the runtime hands out the driver's.
  CudaError GetAddressRange(char* memory, char** base, uint64_t* bytes) override {
    using GetRange = CUresult (*)(CUdeviceptr*, size_t*, CUdeviceptr);
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function, 12000, cudaEnableDefault, &found);
#else
    cudaError_t error = cudaGetDriverEntryPoint("cuMemGetAddressRange", &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess) return error;
    if (found != cudaDriverEntryPointSuccess || function == nullptr) return cudaErrorSymbolNotFound;
    CUdeviceptr start = 0;
    size_t size = 0;
    const CUresult result = reinterpret_cast<GetRange>(function)(&start, &size, reinterpret_cast<CUdeviceptr>(memory));
    *base = reinterpret_cast<char*>(start);
    *bytes = size;
    // The driver's codes and the runtime's agree where they matter here; what does not is said to be unknown to us.
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
  }

  void ClearLastError() override { static_cast<void>(cudaGetLastError()); }
  const char* ErrorName(CudaError error) override { return cudaGetErrorName(static_cast<cudaError_t>(error)); }
  const char* ErrorText(CudaError error) override { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

  CudaError Cast(FloatCast cast, const char* source, char* destination, uint64_t elements,
                 CudaStreamHandle stream) override {
    return CastOnDevice(cast, source, destination, elements, AsStream(stream));
  }
  CudaError DigestSegments(const char* memory, uint64_t bytes, uint32_t* remainders, CudaStreamHandle stream) override {
    return DigestSegmentsOnDevice(memory, bytes, remainders, AsStream(stream));
  }
};

}  // namespace

CudaRuntime* SystemCudaRuntime() {
  static SystemRuntime* const runtime = new SystemRuntime;
  return runtime;
}

}  // namespace weightstream
