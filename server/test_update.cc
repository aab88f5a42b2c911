#include "server/test_update.h"

#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tensor/safetensors_layout.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

class MemoryTarget final : public Target {
 public:
  explicit MemoryTarget(uint64_t bytes) : memory_(bytes, '\0') {}

  uint64_t bytes() const override { return memory_.size(); }
  absl::Status Prepare(ByteRange range) override { return absl::OkStatus(); }
  uint64_t prepared_bytes() const override { return memory_.size(); }
  bool slow_to_prepare() const override { return false; }
  char* host_data() override { return memory_.data(); }
  absl::Status Sync() override { return absl::OkStatus(); }

 private:
  std::string memory_;
};

std::shared_ptr<Update> MakeUpdate(SafetensorsLayout layout, uint64_t bucket_limit_bytes,
                                   std::unique_ptr<Target> target) {
  return std::make_shared<Update>(UpdateIdentity{"u1", "m", 1, "source"},
                                  std::make_shared<const SafetensorsLayout>(std::move(layout)), /*manifest_crc32c=*/7,
                                  bucket_limit_bytes, UpdateArena{std::move(target)});
}

}  // namespace

std::string PatternBytes(uint64_t seed, uint64_t size) {
  std::string bytes(size, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (char& byte : bytes) {
    // xorshift64, Marsaglia.
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<char>(state >> 32);
  }
  return bytes;
}

TensorSpec ByteTensor(absl::string_view name, uint64_t bytes) { return {std::string(name), DType::kU8, {bytes}}; }

std::shared_ptr<Update> MemoryUpdate(const std::vector<TensorSpec>& tensors, uint64_t bucket_limit_bytes) {
  SafetensorsLayout layout = LayOutSafetensors(tensors, {}).value();
  auto target = std::make_unique<MemoryTarget>(layout.data_bytes);
  return MakeUpdate(std::move(layout), bucket_limit_bytes, std::move(target));
}

std::shared_ptr<Update> DeviceUpdate(Device& device, const std::vector<TensorSpec>& tensors,
                                     uint64_t bucket_limit_bytes) {
  SafetensorsLayout layout = LayOutSafetensors(tensors, {}).value();
  const std::string path = absl::StrCat(MakeTestFolder(), "/model.safetensors");
  WriteTestFile(path, EncodeSafetensorsHeader(layout));
  absl::StatusOr<std::unique_ptr<Target>> target = device.CreateTarget({layout.data_bytes, path, layout.data_start});
  EXPECT_TRUE(target.ok()) << target.status();
  if (!target.ok()) return nullptr;
  return MakeUpdate(std::move(layout), bucket_limit_bytes, *std::move(target));
}

void FillUpdate(Update& update, uint64_t seed) {
  const std::string bytes = PatternBytes(seed, update.target().bytes());
  for (const RangeTracker::TensorMissing& missing : update.ranges().Missing()) {
    const uint64_t start = update.layout().tensors[missing.tensor].range.begin;
    for (const ByteRange& range : missing.ranges) {
      for (const TensorRange& claimed : update.ranges().Claim({{missing.tensor, range}})) {
        const ByteRange& part = claimed.range;
        ASSERT_TRUE(update.target().Prepare({start + part.begin, start + part.end}).ok());
        std::memcpy(update.target().host_data() + start + part.begin, bytes.data() + start + part.begin, part.size());
        update.ranges().Land({claimed});
      }
    }
  }
}

bool WaitFor(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace weightstream
