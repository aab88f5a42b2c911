// Rates of a GPU: the ceiling, the pipeline below the network, and the kernels. Prints one line a measurement.
//
// Usage: gpu_benchmark. Exits with 77 where there is no GPU, after saying why; the runner shows that as skipped.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/system_runtime.h"
#include "kernels/staging.h"

namespace weightstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kTargetBytes = 1024 * kMiB;
constexpr uint64_t kStagingBytes = 64 * kMiB;
constexpr int kRounds = 5;
constexpr int kSkipped = 77;

// The median of kRounds rounds after one that warms up, in GB/s.
double MedianRate(uint64_t bytes, const std::function<absl::Status()>& round, absl::Status& status) {
  std::vector<double> rates;
  for (int i = -1; i < kRounds; ++i) {
    const absl::Time start = absl::Now();
    status.Update(round());
    if (i >= 0) rates.push_back(static_cast<double>(bytes) / absl::ToDoubleSeconds(absl::Now() - start) / 1e9);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

void Report(const std::string& what, double rate) { absl::PrintF("%-52s %9.2f GB/s\n", what, rate); }

// Starts a copy for each chunk of the target, and waits for them all.
absl::Status EachChunk(uint64_t chunk, const std::function<void(uint64_t at, Device::CopyDone done)>& start) {
  absl::BlockingCounter left(static_cast<int>(kTargetBytes / chunk));
  absl::Mutex mutex;
  absl::Status first_error;
  for (uint64_t at = 0; at < kTargetBytes; at += chunk) {
    start(at, [&](absl::Status status) {
      {
        absl::MutexLock lock(&mutex);
        first_error.Update(status);
      }
      left.DecrementCount();
    });
  }
  left.Wait();
  return first_error;
}

// Copies alone: what the bus gives for this chunk size.
absl::Status MeasureCeiling(CudaDevice& device, Target& target, const PinnedMemory& pinned, char* from,
                            uint64_t chunk) {
  absl::Status status;
  const double rate = MedianRate(
      kTargetBytes,
      [&] {
        return EachChunk(chunk, [&](uint64_t at, Device::CopyDone done) {
          device.CopyToTarget({from + at % pinned.bytes(), chunk}, target, at, std::move(done));
        });
      },
      status);
  Report(absl::StrFormat("pinned to device, chunks of %d MiB (the ceiling)", chunk / kMiB), rate);
  return status;
}

// Memory, checksum, staging slot, device: all of the way but the network, on one thread.
absl::Status MeasurePipeline(CudaDevice& device, Target& target, const std::string& source, uint64_t chunk) {
  auto ring = StagingRing::Create(device, kStagingBytes, chunk);
  if (!ring.ok()) return ring.status();
  absl::Status status;
  const double rate = MedianRate(
      kTargetBytes,
      [&] {
        return EachChunk(chunk, [&](uint64_t at, Device::CopyDone done) {
          absl::StatusOr<StagingSlot> slot = (*ring)->Acquire(absl::Now() + absl::Seconds(30), nullptr);
          if (!slot.ok()) return done(slot.status());
          const auto held = std::make_shared<StagingSlot>(*std::move(slot));
          CopyAndExtendCrc32c(0, held->data(), absl::string_view(source).substr(at % source.size(), chunk));
          device.CopyToTarget({held->data(), chunk}, target, at, [held, done = std::move(done)](absl::Status copied) {
            *held = StagingSlot();
            done(std::move(copied));
          });
        });
      },
      status);
  Report(absl::StrFormat("memory to device through staging, chunks of %d MiB", chunk / kMiB), rate);
  return status;
}

absl::Status MeasureDigest(CudaDevice& device, Target& target) {
  absl::Status status;
  const double rate = MedianRate(
      kTargetBytes,
      [&] {
        return device.DigestTarget(target, {0, kTargetBytes}, 16 * kMiB).status();
      },
      status);
  Report("digest of device memory", rate);
  return status;
}

// The bytes that a cast reads and writes in device memory, over the time of the kernel alone.
absl::Status MeasureCast(CudaRuntime& runtime, const char* name, FloatCast cast, char* from, char* to,
                         CudaStreamHandle stream) {
  const uint64_t elements = kTargetBytes / 8;
  absl::Status status;
  const double rate = MedianRate(
      elements * (CastSourceBytes(cast) + CastDestinationBytes(cast)),
      [&]() -> absl::Status {
        CudaError error = runtime.Cast(cast, from, to, elements, stream);
        if (error == kCudaSuccess) error = runtime.StreamSynchronize(stream);
        return error == kCudaSuccess ? absl::OkStatus() : absl::InternalError(runtime.ErrorText(error));
      },
      status);
  Report(absl::StrFormat("cast %s, read and written", name), rate);
  return status;
}

absl::Status MeasureCasts(CudaRuntime& runtime) {
  char* memory = nullptr;
  CudaStreamHandle stream = nullptr;
  if (runtime.SetDevice(0) != kCudaSuccess || runtime.Malloc(kTargetBytes, &memory) != kCudaSuccess ||
      runtime.StreamCreate(&stream) != kCudaSuccess) {
    return absl::ResourceExhaustedError("no memory or stream for the casts");
  }
  char* const half = memory + kTargetBytes / 2;
  absl::Status status = MeasureCast(runtime, "F32 to BF16", FloatCast::kF32ToBf16, memory, half, stream);
  status.Update(MeasureCast(runtime, "BF16 to F32", FloatCast::kBf16ToF32, memory, half, stream));
  status.Update(MeasureCast(runtime, "BF16 to F16", FloatCast::kBf16ToF16, memory, half, stream));
  static_cast<void>(runtime.StreamDestroy(stream));
  static_cast<void>(runtime.Free(memory));
  return status;
}

absl::Status MeasureAll(CudaDevice& device) {
  auto target = device.CreateTarget({.bytes = kTargetBytes});
  if (!target.ok()) return target.status();
  auto pinned = device.AllocatePinned(kStagingBytes);
  if (!pinned.ok()) return pinned.status();
  const std::string source(4 * kStagingBytes, 'w');
  std::memset((*pinned)->data(), 'w', kStagingBytes);
  absl::Status status;
  for (const uint64_t chunk : {kMiB, 4 * kMiB, 16 * kMiB}) {
    status.Update(MeasureCeiling(device, **target, **pinned, (*pinned)->data(), chunk));
    status.Update(MeasurePipeline(device, **target, source, chunk));
  }
  status.Update(MeasureDigest(device, **target));
  status.Update(MeasureCasts(*SystemCudaRuntime()));
  return status;
}

}  // namespace
}  // namespace weightstream

int main() {
  const auto device = weightstream::CudaDevice::Open(weightstream::SystemCudaRuntime(), {});
  if (!device.ok()) {
    absl::FPrintF(stderr, "skipped: %s\n", device.status().message());
    return weightstream::kSkipped;
  }
  absl::PrintF("%s, medians of %d rounds of 1 GiB\n", (*device)->model(), weightstream::kRounds);
  const absl::Status status = weightstream::MeasureAll(**device);
  if (status.ok()) return 0;
  absl::FPrintF(stderr, "failed: %s\n", status.ToString());
  return 1;
}
