#include "client/push_testing.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"

#ifdef __SANITIZE_ADDRESS__
// The system's c-ares, with which gRPC resolves names, keeps some 60 bytes of "localhost" for each process.
extern "C" const char* __lsan_default_suppressions() { return "leak:libcares"; }
#endif

namespace weightstream {

TestModel::TestModel(uint64_t bytes, uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {
  Add("empty", DType::kF32, {0, 7});
  Add("scalar", DType::kF64, {});
  Add("one.byte", DType::kU8, {1});
  Add("packed", DType::kF6E2M3, {4, 1001});
  Add("odd", DType::kBF16, {3, 33331});
  for (int i = 0; total_bytes() < bytes; ++i) {
    Add(absl::StrCat("layer.", i, ".weight"), i % 2 == 0 ? DType::kBF16 : DType::kF32, {257, 1024});
  }
}

void TestModel::Add(std::string name, DType dtype, std::vector<uint64_t> shape) {
  TensorSpec spec{std::move(name), dtype, std::move(shape)};
  std::string data(TensorByteSize(spec).value(), '\0');
  for (char& byte : data) {
    state_ = state_ * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(state_ >> 56);
  }
  specs_.push_back(std::move(spec));
  data_.push_back(std::move(data));
}

std::unique_ptr<WeightSource> TestModel::Source(const std::string& source_id) const {
  std::vector<MemoryTensor> tensors;
  for (size_t i = 0; i < specs_.size(); ++i) tensors.push_back({specs_[i], data_[i]});
  return NewMemorySource(std::move(tensors), {{"format", "pt"}}, source_id).value();
}

void TestModel::ExpectHeldBy(const FakeServer& server, const std::string& model) const {
  for (size_t i = 0; i < specs_.size(); ++i) {
    const absl::optional<std::string> held = server.Tensor(model, specs_[i].name);
    ASSERT_TRUE(held.has_value()) << specs_[i].name;
    EXPECT_TRUE(*held == data_[i]) << specs_[i].name << " differs";
  }
}

uint64_t TestModel::total_bytes() const {
  uint64_t bytes = 0;
  for (const std::string& data : data_) bytes += data.size();
  return bytes;
}

TimeLimits ShortLimits() {
  TimeLimits limits;
  limits.connect = absl::Seconds(2);
  // What a test is about is set there: these are what else it has to come through on a busy machine.
  limits.call = absl::Seconds(30);
  limits.stall = absl::Seconds(30);
  limits.per_gib = absl::Seconds(1);
  return limits;
}

PushOptions TestOptions() {
  PushOptions options;
  options.model = std::string("m");
  options.version = 1;
  options.connections = 2;
  options.bucket_limit_bytes = 64 << 10;
  options.limits = ShortLimits();
  return options;
}

}  // namespace weightstream
