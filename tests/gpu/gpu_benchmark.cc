// Rates of a GPU: the ceiling, the pipeline below the network, the kernels, and whole pushes over loopback, with how
// far receiving and copying overlap. Prints one line a measurement.
//
// Usage: gpu_benchmark [TIMELINE.svg]. Says of each rate that has a goal whether it was reached, and in the last line
// which were missed. That fails nothing: a rate is the machine's too (its bus, its neighbours), and a reader judges.
// Exits with 77 where there is no GPU, after saying why; the runner shows that as skipped. Versions of host targets,
// for comparison, lie in /dev/shm, or below TMPDIR if that is set.
#include <sys/statvfs.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/system_runtime.h"
#include "kernels/host_device.h"
#include "process/allocator.h"
#include "server/log.h"
#include "tests/gpu/goals.h"
#include "tests/gpu/rates.h"

namespace weightstream {
namespace {

constexpr int kSkipped = 77;
constexpr char kToHost[] = "push over loopback to host memory";
constexpr char kToHostStaged[] = "push over loopback to host memory, through staging";
constexpr char kToDevice[] = "push over loopback to device memory";
// A version that is current, one that arrives or waits as a spare, and some room to breathe.
constexpr uint64_t kVersionsAtATime = 3;

absl::StatusOr<std::string> MakeDataDir() {
  const char* const folder = std::getenv("TMPDIR");
  std::string path = absl::StrCat(folder != nullptr ? folder : "/dev/shm", "/weightstream-gpu-benchmark-XXXXXX");
  if (::mkdtemp(path.data()) == nullptr) return absl::UnavailableError(absl::StrCat("cannot make ", path));
  return path;
}

uint64_t FreeBytes(const std::string& folder) {
  struct statvfs space {};
  return ::statvfs(folder.c_str(), &space) == 0 ? uint64_t{space.f_bavail} * space.f_frsize : 0;
}

absl::StatusOr<std::unique_ptr<Device>> OpenHost(bool staged) { return NewHostDevice({.device_like = staged}); }

absl::StatusOr<std::unique_ptr<Device>> OpenCudaWithStreams(int streams) {
  return CudaDevice::Open(SystemCudaRuntime(), {.copy_streams = streams});
}

absl::StatusOr<std::unique_ptr<Device>> OpenCuda() { return CudaDevice::Open(SystemCudaRuntime(), {}); }

absl::Status MeasureAllPushes(const BenchmarkSizes& sizes, const std::string& svg_path, RateReport& report) {
  const absl::StatusOr<std::string> data_dir = MakeDataDir();
  if (!data_dir.ok()) return data_dir.status();
  const absl::Cleanup remove = [&] {
    std::error_code ignored;
    std::filesystem::remove_all(*data_dir, ignored);
  };
  std::vector<PushContender> contenders;
  const uint64_t needed = 2 * kVersionsAtATime * sizes.push_bytes;
  if (const uint64_t free = FreeBytes(*data_dir); free < needed) {
    const std::string why =
        absl::StrFormat("%s has %d MiB free, it takes %d; set TMPDIR", *data_dir, free >> 20, needed >> 20);
    report.Skip(kToHost, why);
    report.Skip(kToHostStaged, why);
  } else {
    contenders.push_back({kToHost, "", [] { return OpenHost(false); }});
    contenders.push_back({kToHostStaged, kToHost, [] { return OpenHost(true); }});
  }
  const PushContender device{kToDevice, kToHostStaged, OpenCuda, kPushGoal};
  contenders.push_back(device);
  if (absl::Status measured = MeasurePushes(contenders, *data_dir, sizes, report); !measured.ok()) return measured;
  return TracePush(device, *data_dir, sizes, svg_path);
}

absl::Status MeasureAll(const std::string& svg_path) {
  const BenchmarkSizes sizes;
  RateReport report;
  auto device = CudaDevice::Open(SystemCudaRuntime(), {});
  if (!device.ok()) return device.status();
  absl::PrintF("%s, medians of %d rounds of %d MiB, pushes of %d MiB\n", (*device)->model(), sizes.rounds,
               sizes.target_bytes >> 20, sizes.push_bytes >> 20);
  absl::Status status = MeasureCopies(**device, sizes, report);
  status.Update(MeasureKernels(*SystemCudaRuntime(), **device, sizes, report));
  device->reset();
  status.Update(MeasureCopyStreams({std::begin(kCopyStreamsToMeasure), std::end(kCopyStreamsToMeasure)},
                                   OpenCudaWithStreams, sizes, report));
  status.Update(MeasureAllPushes(sizes, svg_path, report));
  // The last line: the runner's table has it.
  if (status.ok()) report.Note(JudgementOf(report.rows()));
  return status;
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
  weightstream::TuneAllocatorForStreaming();
  // The table is to be read. The level is one that there is.
  static_cast<void>(weightstream::StartLogging("warning", weightstream::LogFormat::kText));
  if (const auto device = weightstream::OpenCuda(); !device.ok()) {
    absl::FPrintF(stderr, "skipped: %s\n", device.status().message());
    return weightstream::kSkipped;
  }
  const absl::Status status = weightstream::MeasureAll(argc > 1 ? argv[1] : "");
  if (status.ok()) return 0;
  absl::FPrintF(stderr, "failed: %s\n", status.ToString());
  return 1;
}
