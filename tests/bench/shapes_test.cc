#include "tests/bench/shapes.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace weightstream::bench {
namespace {

constexpr uint64_t kMiB = 1 << 20;

uint64_t SumOf(const std::vector<MemoryTensor>& tensors) {
  uint64_t sum = 0;
  for (const MemoryTensor& tensor : tensors) sum += tensor.data.size();
  return sum;
}

TEST(ShapesTest, OneTensorHasAllTheBytes) {
  const std::string bytes(16 * kMiB, 'x');
  const auto tensors = CutOne(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 1u);
  EXPECT_EQ(tensors->front().data, absl::string_view(bytes));
}

TEST(ShapesTest, LlamaHasAllItsTensorsAtAnySize) {
  for (const uint64_t mib : {16, 64, 300}) {
    const std::string bytes(mib * kMiB, 'x');
    const auto tensors = CutLlama(bytes);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    std::set<std::string> names;
    for (const MemoryTensor& tensor : *tensors) names.insert(tensor.spec.name);
    EXPECT_EQ(names.size(), 291u);
    EXPECT_LE(SumOf(*tensors), bytes.size());
    EXPECT_GE(SumOf(*tensors) + 3 * kMiB, bytes.size()) << mib;
    EXPECT_TRUE(NewMemorySource(*tensors).ok());
  }
}

TEST(ShapesTest, TooFewBytesAreAnErrorThatNamesTheTensor) {
  const std::string bytes(2 * kMiB, 'x');
  const auto tensors = CutLlama(bytes);
  ASSERT_FALSE(tensors.ok());
  EXPECT_NE(tensors.status().message().find("model."), absl::string_view::npos) << tensors.status();
  EXPECT_FALSE(CutOne("").ok());
}

TEST(ShapesTest, SmallTensorsAreOfOneSize) {
  const std::string bytes(1000 * kSmallTensorBytes, 'x');
  const auto tensors = CutSmall(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->size(), 1000u);
  for (const MemoryTensor& tensor : *tensors) EXPECT_EQ(tensor.data.size(), kSmallTensorBytes);
}

}  // namespace
}  // namespace weightstream::bench
