// What the message of a BeginUpdate of 100,000 tensors costs at each end.
//
//   bazel run -c opt //proto:begin_codec_benchmark
#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/begin_codec.h"

namespace weightstream {
namespace {

// As gRPC receives a message.
constexpr size_t kReceivedSliceBytes = 8 << 10;

std::vector<TensorSpec> Manifest() {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 100'000; ++i) {
    tensors.push_back({absl::StrCat("model.experts.", i, ".weight"), DType::kBF16, {32, 64}});
  }
  return tensors;
}

std::vector<uint32_t> AsTheyCome(size_t tensors) {
  std::vector<uint32_t> order(tensors);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

void BM_EncodeManifest(benchmark::State& state) {
  const std::vector<TensorSpec> tensors = Manifest();
  const std::vector<uint32_t> order = AsTheyCome(tensors.size());
  for (auto _ : state) benchmark::DoNotOptimize(EncodeManifest(tensors, order));
}
BENCHMARK(BM_EncodeManifest)->Unit(benchmark::kMillisecond);

void BM_ParseBeginRequest(benchmark::State& state) {
  const std::vector<TensorSpec> tensors = Manifest();
  const grpc::Slice manifest = EncodeManifest(tensors, AsTheyCome(tensors.size()));
  std::vector<grpc::Slice> slices;
  for (size_t begin = 0; begin < manifest.size(); begin += kReceivedSliceBytes) {
    slices.push_back(manifest.sub(begin, std::min(begin + kReceivedSliceBytes, manifest.size())));
  }
  const grpc::ByteBuffer message(slices.data(), slices.size());
  for (auto _ : state) {
    BeginRequest request;
    if (!ParseBeginRequest(message, request)) state.SkipWithError("the message is none");
    benchmark::DoNotOptimize(request);
  }
}
BENCHMARK(BM_ParseBeginRequest)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weightstream

BENCHMARK_MAIN();
