#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cast.h"
#include "kernels/cuda/error_codes.h"
#include "tests/gpu/rates.h"

namespace weightstream {
namespace {

// As the server digests.
constexpr uint64_t kDigestBlockBytes = 16 << 20;
constexpr char kBandwidth[] = "copy within device memory, read and written";

// Raw device memory and a stream. Of the device that the thread has set.
class DeviceScratch {
 public:
  explicit DeviceScratch(CudaRuntime& runtime) : runtime_(runtime) {}
  ~DeviceScratch() {
    if (stream_ != nullptr) static_cast<void>(runtime_.StreamDestroy(stream_));
    if (memory_ != nullptr) static_cast<void>(runtime_.Free(memory_));
  }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;

  absl::Status Allocate(uint64_t bytes) {
    CudaError error = runtime_.SetDevice(0);
    if (error == kCudaSuccess) error = runtime_.Malloc(bytes, &memory_);
    if (error == kCudaSuccess) error = runtime_.StreamCreate(&stream_);
    return StatusOf(error, absl::StrCat("allocating ", bytes, " bytes for the kernels"));
  }

  // Starts something on the stream `repeats` times, and waits for it.
  absl::Status Run(int repeats, const std::function<CudaError(CudaStreamHandle)>& start) {
    for (int i = 0; i < repeats; ++i) {
      if (absl::Status status = StatusOf(start(stream_), "starting a kernel"); !status.ok()) return status;
    }
    return StatusOf(runtime_.StreamSynchronize(stream_), "a kernel");
  }

  char* memory() const { return memory_; }

 private:
  absl::Status StatusOf(CudaError error, absl::string_view what) {
    if (error == kCudaSuccess) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(what, ": ", runtime_.ErrorText(error)));
  }

  CudaRuntime& runtime_;
  char* memory_ = nullptr;
  CudaStreamHandle stream_ = nullptr;
};

// Device memory: half of a target's size to read, half to write.
class KernelRates {
 public:
  KernelRates(CudaRuntime& runtime, DeviceScratch& scratch, const BenchmarkSizes& sizes, RateReport& report)
      : runtime_(runtime), scratch_(scratch), sizes_(sizes), report_(report), half_(sizes.target_bytes / 2) {}

  absl::Status Bandwidth() {
    return Measure(kBandwidth, "", 0, 2 * half_,
                   [&](CudaStreamHandle stream) { return runtime_.CopyOnDevice(to(), from(), half_, stream); });
  }

  absl::Status Digest() {
    return Measure("digest of device memory, the kernel alone", kBandwidth, kDigestGoal, half_,
                   [&](CudaStreamHandle stream) {
                     return runtime_.DigestSegments(from(), half_, reinterpret_cast<uint32_t*>(to()), stream);
                   });
  }

  absl::Status Cast(absl::string_view name, FloatCast cast) {
    // The larger of the two types has four bytes.
    const uint64_t elements = half_ / 4;
    return Measure(absl::StrCat("cast ", name, ", read and written"), kBandwidth, kCastGoal,
                   elements * (CastSourceBytes(cast) + CastDestinationBytes(cast)),
                   [&](CudaStreamHandle stream) { return runtime_.Cast(cast, from(), to(), elements, stream); });
  }

 private:
  char* from() const { return scratch_.memory(); }
  char* to() const { return scratch_.memory() + half_; }

  absl::Status Measure(const std::string& name, const std::string& of, double to_reach, uint64_t bytes,
                       const std::function<CudaError(CudaStreamHandle)>& start) {
    const auto rate = MedianRate(bytes * static_cast<uint64_t>(sizes_.kernel_repeats), sizes_.rounds,
                                 [&] { return scratch_.Run(sizes_.kernel_repeats, start); });
    if (!rate.ok()) return rate.status();
    report_.Add(name, *rate, of, to_reach);
    return absl::OkStatus();
  }

  CudaRuntime& runtime_;
  DeviceScratch& scratch_;
  const BenchmarkSizes& sizes_;
  RateReport& report_;
  const uint64_t half_;
};

}  // namespace

absl::Status MeasureKernels(CudaRuntime& runtime, Device& device, const BenchmarkSizes& sizes, RateReport& report) {
  {
    DeviceScratch scratch(runtime);
    if (absl::Status allocated = scratch.Allocate(sizes.target_bytes); !allocated.ok()) return allocated;
    KernelRates rates(runtime, scratch, sizes, report);
    absl::Status status = rates.Bandwidth();
    if (status.ok()) status = rates.Digest();
    if (status.ok()) status = rates.Cast("F32 to BF16", FloatCast::kF32ToBf16);
    if (status.ok()) status = rates.Cast("BF16 to F32", FloatCast::kBf16ToF32);
    if (status.ok()) status = rates.Cast("BF16 to F16", FloatCast::kBf16ToF16);
    if (!status.ok()) return status;
  }
  auto target = device.CreateTarget({.bytes = sizes.target_bytes});
  if (!target.ok()) return target.status();
  const auto rate = MedianRate(sizes.target_bytes, sizes.rounds, [&] {
    return device.DigestTarget(**target, {0, sizes.target_bytes}, kDigestBlockBytes).status();
  });
  if (!rate.ok()) return rate.status();
  report.Add("digest of device memory, as a server does it", *rate, kBandwidth);
  return absl::OkStatus();
}

}  // namespace weightstream
