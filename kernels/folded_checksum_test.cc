#include "kernels/folded_checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/base/config.h"
#include "kernels/checksum_internal.h"
#include "kernels/non_temporal_copy.h"

namespace weightstream {
namespace {

constexpr size_t kStep = 256;

absl::string_view View(const std::string& bytes) { return absl::string_view(bytes.data(), bytes.size()); }

std::string RandomBytes(size_t size) {
  std::mt19937 random(1);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

bool ProcessorFolds() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0;
#else
  return false;
#endif
}

TEST(FoldChecksumTest, SumsAllWholeStepsAndNoMore) {
  if (!ProcessorFolds()) GTEST_SKIP() << "this processor lacks AVX-512 or VPCLMULQDQ";
  const std::string bytes = RandomBytes(40 * kStep);
  for (size_t size = 0; size < 38 * kStep; size += size < 3 * kStep ? 1 : 101) {
    const absl::string_view part = View(bytes).substr(size % 67, size);
    uint32_t shift_register = ~uint32_t{0x12345678};
    const size_t whole = size / kStep * kStep;
    ASSERT_EQ(FoldChecksum(shift_register, part), whole);
    ASSERT_EQ(~shift_register, internal::ExtendCrc32cByBlocks(0x12345678, part.substr(0, whole))) << size;
  }
}

TEST(FoldChecksumTest, CopiesWhatItSumsAndNothingBesideIt) {
  if (!ProcessorFolds()) GTEST_SKIP() << "this processor lacks AVX-512 or VPCLMULQDQ";
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "a sanitizer would not see these stores, so there are none";
#endif
  const std::string bytes = RandomBytes(20 * kStep);
  for (size_t size = 0; size < 18 * kStep; size += size < 3 * kStep ? 1 : 101) {
    const absl::string_view part = View(bytes).substr(size % 67, size);
    const size_t whole = size / kStep * kStep;
    std::string place(20 * kStep, '#');
    char* const line = place.data() + BytesToLine(place.data());
    uint32_t shift_register = 0;
    ASSERT_EQ(FoldChecksumAndCopy(shift_register, line, part), whole);
    NonTemporalFence();
    ASSERT_EQ(~shift_register, internal::ExtendCrc32cByBlocks(~uint32_t{0}, part.substr(0, whole))) << size;
    const std::string expected = std::string(line - place.data(), '#') + std::string(part.substr(0, whole));
    ASSERT_TRUE(place == expected + std::string(place.size() - expected.size(), '#')) << size;
  }
}

TEST(FoldChecksumTest, ElsewhereItLeavesAllToOthers) {
  if (ProcessorFolds()) GTEST_SKIP() << "this processor folds";
  uint32_t shift_register = 5;
  std::string place(1'000, '#');
  EXPECT_EQ(FoldChecksum(shift_register, View(place)), 0u);
  EXPECT_EQ(FoldChecksumAndCopy(shift_register, place.data() + BytesToLine(place.data()), View(place).substr(0, 500)),
            0u);
  EXPECT_EQ(shift_register, 5u);
}

}  // namespace
}  // namespace weightstream
