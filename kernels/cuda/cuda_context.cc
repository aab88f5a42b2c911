#include "kernels/cuda/cuda_context.h"

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

// The oldest generation that the kernels are compiled for (cuda_library.bzl).
constexpr int kLeastComputeMajor = 8;

std::string VersionText(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

absl::Status NotUsable(absl::string_view device, absl::string_view why, absl::string_view remedy) {
  return absl::FailedPreconditionError(absl::StrCat(device, " cannot be used: ", why, "; ", remedy));
}

// Whether there is a driver, and one that is new enough.
absl::Status CheckDriver(CudaRuntime& runtime, absl::string_view device) {
  int driver = 0;
  int needed = 0;
  if (absl::Status asked = CudaStatus(runtime, runtime.DriverGetVersion(&driver), device, "cudaDriverGetVersion");
      !asked.ok()) {
    return asked;
  }
  if (driver == 0) {
    return NotUsable(device, "this machine has no NVIDIA driver, or it is not visible here",
                     "install it (in a container: start that with its GPUs), or use --device=host");
  }
  if (absl::Status asked = CudaStatus(runtime, runtime.RuntimeGetVersion(&needed), device, "cudaRuntimeGetVersion");
      !asked.ok()) {
    return asked;
  }
  // Within one major release an older driver runs newer runtimes.
  if (driver / 1000 < needed / 1000) {
    return NotUsable(device,
                     absl::StrCat("the NVIDIA driver is too old: it knows CUDA ", VersionText(driver),
                                  ", and this binary was built with CUDA ", VersionText(needed)),
                     "install a newer driver, or build with an older toolkit (CUDA_HOME)");
  }
  return absl::OkStatus();
}

absl::Status CheckIndex(CudaRuntime& runtime, int index, absl::string_view device) {
  int count = 0;
  const CudaError error = runtime.GetDeviceCount(&count);
  if (error == kCudaNoDevice || (error == kCudaSuccess && count == 0)) {
    return NotUsable(device, "the NVIDIA driver sees no GPU",
                     "look at nvidia-smi and at CUDA_VISIBLE_DEVICES, or use --device=host");
  }
  if (error == kCudaInsufficientDriver) {
    return NotUsable(device, "the NVIDIA driver is too old for this binary", "install a newer driver");
  }
  if (absl::Status counted = CudaStatus(runtime, error, device, "cudaGetDeviceCount"); !counted.ok()) return counted;
  if (index >= 0 && index < count) return absl::OkStatus();
  return NotUsable(device,
                   absl::StrCat("there is no such device; this machine has ", count, ", cuda:0 to cuda:", count - 1),
                   "choose one of them");
}

}  // namespace

CudaContext::CudaContext(CudaRuntime& runtime, int index, const CudaDeviceInfo& info)
    : runtime_(runtime), index_(index), info_(info), name_(absl::StrCat("cuda:", index)) {}

absl::StatusOr<std::shared_ptr<CudaContext>> CudaContext::Open(CudaRuntime& runtime, int index) {
  const std::string name = absl::StrCat("cuda:", index);
  if (absl::Status driver = CheckDriver(runtime, name); !driver.ok()) return driver;
  if (absl::Status found = CheckIndex(runtime, index, name); !found.ok()) return found;
  CudaDeviceInfo info;
  if (absl::Status asked = CudaStatus(runtime, runtime.GetDeviceInfo(index, &info), name, "cudaGetDeviceProperties");
      !asked.ok()) {
    return asked;
  }
  if (info.compute_major < kLeastComputeMajor) {
    return NotUsable(
        name,
        absl::StrCat("a ", info.name.data(), " has compute capability ", info.compute_major, ".", info.compute_minor,
                     ", and ", kLeastComputeMajor, ".0 (A100) is the least that works"),
        "choose another device");
  }
  auto context = absl::WrapUnique(new CudaContext(runtime, index, info));
  // The first call that makes the device's context, and so the first that fails where the device is in use by another
  // process alone, or broken.
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  return std::shared_ptr<CudaContext>(std::move(context));
}

absl::Status CudaContext::Enter() {
  if (absl::Status health = Health(); !health.ok()) return health;
  return Check(runtime_.SetDevice(index_), "cudaSetDevice");
}

absl::Status CudaContext::Check(CudaError error, absl::string_view call) {
  if (error == kCudaSuccess) return absl::OkStatus();
  absl::Status status = CudaStatus(runtime_, error, name_, call);
  if (IsStickyCudaError(error)) {
    Fail(status, Copies::kHaveEnded);
  } else {
    // The runtime keeps the error for whoever asks later; nobody shall take it for their own.
    runtime_.ClearLastError();
  }
  return status;
}

void CudaContext::Fail(const absl::Status& reason, Copies copies) {
  absl::MutexLock lock(&mutex_);
  // The context's end, whenever it comes, is that of all copies.
  if (failure_.ok() || copies == Copies::kHaveEnded) copies_ = copies;
  if (failure_.ok()) failure_ = reason;
}

void CudaContext::AddToFailure(absl::string_view what) {
  absl::MutexLock lock(&mutex_);
  failure_ = absl::Status(failure_.code(), absl::StrCat(failure_.message(), "; ", what));
}

CudaContext::Copies CudaContext::copies_after_failure() const {
  absl::MutexLock lock(&mutex_);
  return copies_;
}

absl::Status CudaContext::Health() const {
  absl::MutexLock lock(&mutex_);
  return failure_;
}

}  // namespace weightstream
