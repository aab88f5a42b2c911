// What a manifest of 100,000 tensors costs at each end of a BeginUpdate, in the order of the layout (as our sender
// brings it) and not.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {
namespace {

std::vector<TensorSpec> Manifest(bool in_order) {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 100'000; ++i) {
    tensors.push_back({absl::StrCat("model.experts.", i, ".weight"), DType::kBF16, {32, 64}});
  }
  std::vector<TensorSpec> ordered;
  for (const uint32_t tensor : LayoutOrder(tensors)) ordered.push_back(tensors[tensor]);
  return in_order ? ordered : tensors;
}

void BM_Validate(benchmark::State& state) {
  const std::vector<TensorSpec> tensors = Manifest(state.range(0) != 0);
  for (auto _ : state) benchmark::DoNotOptimize(ValidateManifest(tensors));
}
BENCHMARK(BM_Validate)->ArgName("in_order")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_LayoutOrder(benchmark::State& state) {
  const std::vector<TensorSpec> tensors = Manifest(state.range(0) != 0);
  for (auto _ : state) benchmark::DoNotOptimize(LayoutOrder(tensors));
}
BENCHMARK(BM_LayoutOrder)->ArgName("in_order")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_LayOut(benchmark::State& state) {
  const std::vector<TensorSpec> tensors = Manifest(state.range(0) != 0);
  for (auto _ : state) {
    state.PauseTiming();
    std::vector<TensorSpec> copy = tensors;
    std::string header;
    absl::StatusOr<SafetensorsLayout> layout;
    state.ResumeTiming();
    layout = LayOutSafetensors(std::move(copy), {}, &header);
    state.PauseTiming();
    layout = SafetensorsLayout();
    state.ResumeTiming();
  }
}
BENCHMARK(BM_LayOut)->ArgName("in_order")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_EncodeHeader(benchmark::State& state) {
  const SafetensorsLayout layout = LayOutSafetensors(Manifest(true), {}).value();
  for (auto _ : state) benchmark::DoNotOptimize(EncodeSafetensorsHeader(layout));
}
BENCHMARK(BM_EncodeHeader)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weightstream

BENCHMARK_MAIN();
