#include "client/weight_source.h"

#include <gtest/gtest.h>

#include <string>

#include "tensor/safetensors_writer.h"

namespace weightstream {
namespace {

const TensorSpec kSpec{"w", DType::kBF16, {2, 3}};

TEST(MemorySourceTest, BorrowsTheCallersBytes) {
  const std::string bytes(12, 'x');
  const auto source = NewMemorySource({{kSpec, bytes}}, {{"format", "pt"}}, "run 17");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->data(0).data(), bytes.data());
  EXPECT_EQ((*source)->tensors(), std::vector<TensorSpec>{kSpec});
  EXPECT_EQ((*source)->metadata().at("format"), "pt");
  EXPECT_EQ((*source)->source_id(), "run 17");
}

TEST(MemorySourceTest, RefusesDataOfAnotherSizeAndNamesTheTensor) {
  const auto source = NewMemorySource({{kSpec, "short"}});
  EXPECT_TRUE(absl::IsInvalidArgument(source.status()));
  EXPECT_NE(std::string(source.status().message()).find("\"w\" is BF16[2, 3] and takes 12 bytes"), std::string::npos)
      << source.status();
}

TEST(MemorySourceTest, RefusesABadManifestAndALongId) {
  const std::string bytes(12, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(NewMemorySource({{kSpec, bytes}, {kSpec, bytes}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(NewMemorySource({{kSpec, bytes}}, {}, std::string(257, 'i')).status()));
  EXPECT_TRUE(NewMemorySource({{kSpec, bytes}}, {}, std::string(256, 'i')).ok());
}

TEST(MemorySourceTest, WithoutAnIdIsNeverTakenForAnother) {
  const auto one = NewMemorySource({});
  const auto other = NewMemorySource({});
  EXPECT_FALSE((*one)->source_id().empty());
  EXPECT_NE((*one)->source_id(), (*other)->source_id());
}

TEST(CheckpointSourceTest, HasTheFilesTensorsAndTheSameIdWhenOpenedAgain) {
  const std::string path = testing::TempDir() + "/checkpoint_source.safetensors";
  const std::string bytes = "0123456789ab";
  ASSERT_TRUE(WriteSafetensors(path, {{kSpec, bytes}}, {{"format", "pt"}}).ok());
  const auto source = OpenCheckpointSource(path);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->tensors(), std::vector<TensorSpec>{kSpec});
  EXPECT_EQ((*source)->data(0), bytes);
  EXPECT_EQ((*source)->metadata().at("format"), "pt");
  EXPECT_EQ(OpenCheckpointSource(path).value()->source_id(), (*source)->source_id());
  EXPECT_TRUE(absl::IsNotFound(OpenCheckpointSource(path + ".missing").status()));
}

}  // namespace
}  // namespace weightstream
