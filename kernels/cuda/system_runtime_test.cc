// The CUDA runtime that is linked into this binary, on the machine at hand. Where there is a GPU, the kernels are held
// to their CPU twins, bit for bit; the rest of the device is held to its contract by device_contract_test.
#include "kernels/cuda/system_runtime.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/device_testing.h"

namespace weightstream {
namespace {

TEST(SystemRuntimeTest, OpensOrSaysInWordsWhyNot) {
  const auto device = CudaDevice::Open(SystemCudaRuntime(), {});
  if (device.ok()) {
    EXPECT_EQ((*device)->name(), "cuda:0");
    return;
  }
  const absl::Status why = device.status();
  EXPECT_EQ(why.code(), absl::StatusCode::kFailedPrecondition) << why;
  int driver = 0;
  const std::string expected = SystemCudaRuntime() == nullptr ? "built without CUDA"
                               : SystemCudaRuntime()->DriverGetVersion(&driver) == 0 && driver == 0
                                   ? "has no NVIDIA driver"
                                   : "cuda:0 cannot be used: ";
  EXPECT_TRUE(absl::StrContains(why.message(), expected)) << why;
}

class CudaKernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = CudaDevice::Open(SystemCudaRuntime(), {});
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
  }

  std::unique_ptr<CudaDevice> device_;
};

// Every value of 16 bits, and floats of every exponent: what the kernels make of them is what the processor makes.
TEST_F(CudaKernelsTest, CastsGiveTheBitsOfTheirTwins) {
  const std::string source = RandomBytes((8 << 20) + 8, 1);
  std::unique_ptr<PinnedMemory> staged = device_->AllocatePinned(source.size()).value();
  std::memcpy(staged->data(), source.data(), source.size());
  for (const FloatCast cast : {FloatCast::kF32ToBf16, FloatCast::kF32ToF16, FloatCast::kBf16ToF32, FloatCast::kF16ToF32,
                               FloatCast::kBf16ToF16, FloatCast::kF16ToBf16}) {
    // One more element in front breaks the alignment of the vectors.
    for (const uint64_t skipped : {uint64_t{0}, uint64_t{CastSourceBytes(cast)}}) {
      const uint64_t elements = (source.size() - skipped) / CastSourceBytes(cast);
      const uint64_t bytes = elements * CastDestinationBytes(cast);
      const uint64_t offset = skipped == 0 ? 0 : CastDestinationBytes(cast);
      std::string expected(bytes, '\0');
      CastElements(cast, source.data() + skipped, expected.data(), elements);
      std::unique_ptr<Target> target = device_->CreateTarget({.bytes = offset + bytes}).value();
      CopyResults results;
      device_->CastToTarget(cast, {staged->data() + skipped, source.size() - skipped}, *target, offset,
                            results.Expect());
      ASSERT_EQ(results.Wait(), absl::OkStatus());
      std::string read(bytes, '\0');
      ASSERT_EQ(device_->ReadTarget(*target, {offset, offset + bytes}, read.data()), absl::OkStatus());
      EXPECT_TRUE(read == expected) << static_cast<int>(cast) << " from " << skipped;
    }
  }
}

TEST_F(CudaKernelsTest, DigestsAreTheProcessorsChecksums) {
  constexpr uint64_t kBlock = 2 * kDigestBlockMultiple;
  const std::string bytes = RandomBytes(20 * kBlock + 77, 2);
  std::unique_ptr<PinnedMemory> staged = device_->AllocatePinned(bytes.size()).value();
  std::memcpy(staged->data(), bytes.data(), bytes.size());
  std::unique_ptr<Target> target = device_->CreateTarget({.bytes = bytes.size()}).value();
  CopyResults results;
  device_->CopyToTarget({staged->data(), bytes.size()}, *target, 0, results.Expect());
  ASSERT_EQ(results.Wait(), absl::OkStatus());
  for (uint64_t begin = 0; begin < 9; ++begin) {
    for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{4}, uint64_t{1'023}, uint64_t{1'025},
                                kBlock - 1, kBlock, kBlock + 1, 20 * kBlock + 60}) {
      std::vector<uint32_t> expected;
      for (uint64_t at = 0; at < size; at += kBlock) {
        expected.push_back(
            ExtendCrc32c(0, absl::string_view(bytes).substr(begin + at, std::min<uint64_t>(kBlock, size - at))));
      }
      EXPECT_EQ(device_->DigestTarget(*target, {begin, begin + size}, kBlock).value(), expected)
          << size << " bytes at " << begin;
    }
  }
}

}  // namespace
}  // namespace weightstream
