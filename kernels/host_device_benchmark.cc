// What the first touch of a fresh target costs: prepare and fill 1 GiB of a new file in the folder that the environment
// variable BENCHMARK_FOLDER names (/dev/shm by default).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/host_device.h"

namespace weightstream {
namespace {

constexpr uint64_t kBytes = 1 << 30;
constexpr uint64_t kChunkBytes = 2 << 20;

// Fills every `threads`-th extent, from extent `first` on.
absl::Status Fill(Target& target, uint64_t first, uint64_t threads, const std::string& chunk) {
  const uint64_t step = threads * kHostTargetExtentBytes;
  for (uint64_t extent = first * kHostTargetExtentBytes; extent < kBytes; extent += step) {
    for (uint64_t at = extent; at < extent + kHostTargetExtentBytes; at += kChunkBytes) {
      if (absl::Status status = target.Prepare({at, at + kChunkBytes}); !status.ok()) return status;
      std::memcpy(target.host_data() + at, chunk.data(), kChunkBytes);
    }
  }
  return absl::OkStatus();
}

void BM_FillFreshTarget(benchmark::State& state) {
  const char* folder = getenv("BENCHMARK_FOLDER");
  const std::string path = std::string(folder == nullptr ? "/dev/shm" : folder) + "/weightstream-benchmark";
  std::unique_ptr<Device> device = NewHostDevice({.huge_pages = state.range(0) != 0});
  const auto thread_count = static_cast<uint64_t>(state.range(1));
  const std::string chunk(kChunkBytes, 'w');
  for (auto _ : state) {
    state.PauseTiming();
    close(open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
    auto target = device->CreateTarget({.bytes = kBytes, .path = path});
    if (!target.ok()) return state.SkipWithError(target.status().ToString().c_str());
    state.ResumeTiming();

    std::vector<absl::Status> results(thread_count);
    std::vector<std::thread> threads;
    for (uint64_t thread = 0; thread < thread_count; ++thread) {
      threads.emplace_back([&, thread] { results[thread] = Fill(**target, thread, thread_count, chunk); });
    }
    for (std::thread& thread : threads) thread.join();

    state.PauseTiming();
    for (const absl::Status& status : results) {
      if (!status.ok()) state.SkipWithError(status.ToString().c_str());
    }
    target->reset();
    unlink(path.c_str());
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBytes));
}
BENCHMARK(BM_FillFreshTarget)
    ->ArgNames({"huge_pages", "threads"})
    ->ArgsProduct({{0, 1}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace weightstream
