#include "kernels/cuda/shared_memory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

std::string UuidOf(const CudaDeviceInfo& info) { return std::string(info.uuid.begin(), info.uuid.end()); }

std::string UuidOf(const CudaContext& context) { return UuidOf(context.info()); }

// As NVIDIA's tools print it, more or less: without the dashes.
std::string UuidText(const std::string& uuid) { return absl::StrCat("GPU-", absl::BytesToHexString(uuid)); }

absl::Status OnAnotherDevice(const CudaContext& context, const std::string& its) {
  return absl::InvalidArgumentError(absl::StrCat("the memory is on device ", its, ", and ", context.name(),
                                                 " of this server is ", UuidText(UuidOf(context)),
                                                 "; register it with the server of its own device"));
}

absl::Status CheckShape(const CudaContext& context, const SharedMemory& shared) {
  if (shared.handle.size() != std::tuple_size_v<CudaIpcHandle>) {
    return absl::InvalidArgumentError(absl::StrCat("a CUDA IPC handle has ", std::tuple_size_v<CudaIpcHandle>,
                                                   " bytes, and this one ", shared.handle.size(),
                                                   "; send what cudaIpcGetMemHandle gave, unchanged"));
  }
  if (shared.device_uuid != UuidOf(context)) {
    return OnAnotherDevice(context, UuidText(shared.device_uuid));
  }
  if (shared.bytes == 0) {
    return absl::InvalidArgumentError("the shared range is empty; there is nothing to write to");
  }
  return absl::OkStatus();
}

// A handle says nothing of its device, and opens on another one too, where the two reach each other: what was claimed
// of it is checked by what the runtime knows.
absl::Status CheckDevice(CudaContext& context, const char* opened) {
  int device = 0;
  absl::Status asked = context.Check(context.runtime().PointerDevice(opened, &device), "cudaPointerGetAttributes");
  if (!asked.ok()) return asked;
  if (device == context.index()) return absl::OkStatus();
  CudaDeviceInfo info;
  const absl::Status named = context.Check(context.runtime().GetDeviceInfo(device, &info), "cudaGetDeviceProperties");
  return OnAnotherDevice(context, absl::StrCat(named.ok() ? UuidText(UuidOf(info)) : "of an unknown name",
                                               " (cuda:", device, "), whatever was said of it"));
}

// What opening says about a handle that is not one, no longer one, or our own.
bool BlamesTheHandle(CudaError error) {
  return error == kCudaInvalidValue || error == kCudaInvalidResourceHandle || error == kCudaMapBufferObjectFailed ||
         error == kCudaDeviceUninitialized;
}

}  // namespace

absl::StatusOr<SharedMemory> ExportTarget(CudaContext& context, const CudaTarget& target) {
  if (target.memory().opened() || target.bytes() == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(context.name(), ": only device memory that this server owns can be shared, and this target ",
                     target.bytes() == 0 ? "has none" : "is another process's"));
  }
  if (absl::Status entered = context.Enter(); !entered.ok()) return entered;
  CudaRuntime& runtime = context.runtime();
  char* base = nullptr;
  uint64_t bytes = 0;
  absl::Status found = context.Check(runtime.GetAddressRange(target.At(0), &base, &bytes), "cuMemGetAddressRange");
  if (!found.ok()) return found;
  CudaIpcHandle handle;
  absl::Status got = context.Check(runtime.IpcGetMemHandle(&handle, target.At(0)), "cudaIpcGetMemHandle");
  if (!got.ok()) return got;
  return SharedMemory{std::string(handle.begin(), handle.end()), UuidOf(context),
                      static_cast<uint64_t>(target.At(0) - base), target.bytes()};
}

absl::StatusOr<std::unique_ptr<CudaTarget>> OpenShared(std::shared_ptr<CudaContext> context,
                                                       const SharedMemory& shared) {
  if (absl::Status shape = CheckShape(*context, shared); !shape.ok()) return shape;
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  CudaRuntime& runtime = context->runtime();
  CudaIpcHandle handle;
  std::copy(shared.handle.begin(), shared.handle.end(), handle.begin());
  char* data = nullptr;
  const CudaError error = runtime.IpcOpenMemHandle(handle, &data);
  absl::Status opened = context->Check(error, "cudaIpcOpenMemHandle");
  if (BlamesTheHandle(error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(opened.message(), "; the handle is not one of another process's allocation that still lives"));
  }
  if (!opened.ok()) return opened;
  // From here on it is closed, whatever comes.
  std::unique_ptr<CudaMemory> memory = CudaMemory::AdoptOpened(context, data);
  if (absl::Status device = CheckDevice(*context, data); !device.ok()) return device;
  char* base = nullptr;
  uint64_t bytes = 0;
  absl::Status found = context->Check(runtime.GetAddressRange(data, &base, &bytes), "cuMemGetAddressRange");
  if (!found.ok()) return found;
  // Opening gives the start of the allocation.
  if (shared.offset > bytes || shared.bytes > bytes - shared.offset) {
    return absl::InvalidArgumentError(absl::StrCat("the shared range is ", shared.bytes, " bytes from ", shared.offset,
                                                   " on, and the allocation that its handle names has ", bytes));
  }
  return std::make_unique<CudaTarget>(std::move(context), std::move(memory), shared.offset, shared.bytes);
}

}  // namespace weightstream
