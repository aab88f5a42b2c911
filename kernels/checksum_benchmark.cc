// What a checksum costs on the way of a chunk, and which block size the fused copy should use.
//
// The buffers cycle through memory larger than the caches, as a stream of weights does.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/string_view.h"
#include "kernels/checksum.h"
#include "kernels/checksum_internal.h"

namespace weightstream {
namespace {

constexpr size_t kMemoryBytes = 512 << 20;
constexpr size_t kChunkBytes = 2 << 20;

// A source and a destination that are walked chunk by chunk, over and over.
class Walk {
 public:
  // Slices of a socket start anywhere: `misalignment` moves the source by so many bytes.
  explicit Walk(size_t misalignment = 0)
      : source_(kMemoryBytes + misalignment, 'w'), destination_(kMemoryBytes, 'd'), misalignment_(misalignment) {}

  void Next() { offset_ = (offset_ + kChunkBytes) % kMemoryBytes; }
  absl::string_view source() const { return absl::string_view(source_.data() + misalignment_ + offset_, kChunkBytes); }
  char* destination() { return destination_.data() + offset_; }

 private:
  std::vector<char> source_;
  std::vector<char> destination_;
  size_t misalignment_;
  size_t offset_ = 0;
};

template <typename Work>
void Measure(benchmark::State& state, Work work, size_t misalignment = 0) {
  Walk walk(misalignment);
  uint32_t crc = 0;
  for (auto _ : state) {
    crc = work(crc, walk);
    walk.Next();
    benchmark::DoNotOptimize(crc);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kChunkBytes));
}

void BM_Copy(benchmark::State& state) {
  Measure(state, [](uint32_t crc, Walk& walk) {
    std::memcpy(walk.destination(), walk.source().data(), kChunkBytes);
    return crc;
  });
}
BENCHMARK(BM_Copy);

void BM_Checksum(benchmark::State& state) {
  Measure(state, [](uint32_t crc, Walk& walk) { return ExtendCrc32c(crc, walk.source()); });
}
BENCHMARK(BM_Checksum);

void BM_CopyThenChecksum(benchmark::State& state) {
  Measure(state, [](uint32_t crc, Walk& walk) {
    std::memcpy(walk.destination(), walk.source().data(), kChunkBytes);
    return ExtendCrc32c(crc, walk.source());
  });
}
BENCHMARK(BM_CopyThenChecksum);

void BM_Fused(benchmark::State& state, Stores stores) {
  Measure(
      state,
      [stores](uint32_t crc, Walk& walk) {
        return CopyAndExtendCrc32c(crc, walk.destination(), walk.source(), stores);
      },
      /*misalignment=*/static_cast<size_t>(state.range(0)));
}
BENCHMARK_CAPTURE(BM_Fused, Cached, Stores::kCached)->Arg(0)->Arg(13);
BENCHMARK_CAPTURE(BM_Fused, NonTemporal, Stores::kNonTemporal)->Arg(0)->Arg(13);

void BM_FusedByBlocks(benchmark::State& state, Stores stores) {
  const auto block_bytes = static_cast<size_t>(state.range(0));
  Measure(
      state,
      [block_bytes, stores](uint32_t crc, Walk& walk) {
        return internal::CopyAndExtendCrc32cByBlocks(crc, walk.destination(), walk.source(), stores, block_bytes);
      },
      /*misalignment=*/static_cast<size_t>(state.range(1)));
}
BENCHMARK_CAPTURE(BM_FusedByBlocks, Cached, Stores::kCached)
    ->ArgsProduct({benchmark::CreateRange(1 << 10, 256 << 10, 2), {0, 13}});
BENCHMARK_CAPTURE(BM_FusedByBlocks, NonTemporal, Stores::kNonTemporal)
    ->ArgsProduct({benchmark::CreateRange(1 << 10, 256 << 10, 2), {0, 13}});

void BM_Concat(benchmark::State& state) {
  uint32_t crc = 1;
  for (auto _ : state) {
    crc = ConcatCrc32c(crc, 0x12345678, kChunkBytes - 1);
    benchmark::DoNotOptimize(crc);
  }
}
BENCHMARK(BM_Concat);

}  // namespace
}  // namespace weightstream
