#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/checkpoint.h"
#include "tensor/safetensors_writer.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr char kIndex[] = "/model.safetensors.index.json";

// U8 tensors "t0", "t1", ... of these bytes.
std::vector<TensorData> TensorsOf(const std::vector<absl::string_view>& data) {
  std::vector<TensorData> tensors;
  for (const absl::string_view bytes : data) {
    tensors.push_back({{absl::StrCat("t", tensors.size()), DType::kU8, {bytes.size()}}, bytes});
  }
  return tensors;
}

std::vector<std::string> NamesInFile(const std::string& path) {
  const absl::StatusOr<Checkpoint> file = Checkpoint::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<std::string> names;
  for (const Checkpoint::Tensor& tensor : file->tensors()) names.push_back(tensor.spec.name);
  return names;
}

TEST(ShardedCheckpoint, ANewShardBeginsWhereTheNextTensorWouldGoOver) {
  const std::string folder = MakeTestFolder() + "/new/folder";
  const absl::Status status =
      WriteShardedCheckpoint(folder, TensorsOf({"aaa", "bb", "c", "larger than a shard", "", "d"}), {{"k", "v"}}, 5);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(NamesIn(folder), ElementsAre("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                                           "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                                           "model.safetensors.index.json"));
  EXPECT_THAT(NamesInFile(folder + "/model-00001-of-00004.safetensors"), ElementsAre("t0", "t1"));
  EXPECT_THAT(NamesInFile(folder + "/model-00002-of-00004.safetensors"), ElementsAre("t2"));
  EXPECT_THAT(NamesInFile(folder + "/model-00003-of-00004.safetensors"), ElementsAre("t3"));
  EXPECT_THAT(NamesInFile(folder + "/model-00004-of-00004.safetensors"), ElementsAre("t4", "t5"));
}

TEST(ShardedCheckpoint, WhatIsWrittenIsReadBack) {
  const std::string folder = MakeTestFolder();
  ASSERT_TRUE(WriteShardedCheckpoint(folder, TensorsOf({"aaa", "bb", "c", "dddd"}), {{"k", "v"}}, 4).ok());
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::vector<std::string> data;
  for (const Checkpoint::Tensor& tensor : checkpoint->tensors()) data.emplace_back(tensor.data);
  EXPECT_THAT(data, ElementsAre("aaa", "bb", "c", "dddd"));
  EXPECT_EQ(checkpoint->metadata(), (Metadata{{"k", "v"}}));
  EXPECT_EQ(checkpoint->total_bytes(), 10u);
}

TEST(ShardedCheckpoint, TheIndexHasHuggingFacesForm) {
  const std::string folder = MakeTestFolder();
  ASSERT_TRUE(WriteShardedCheckpoint(folder, TensorsOf({"aaa", "bb"}), {}, 3).ok());
  EXPECT_EQ(ReadTestFile(folder + kIndex),
            "{\n  \"metadata\": {\n    \"total_size\": 5\n  },\n  \"weight_map\": {\n"
            "    \"t0\": \"model-00001-of-00002.safetensors\",\n"
            "    \"t1\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
}

TEST(ShardedCheckpoint, AModelWithoutTensorsIsOneFileWithItsMetadata) {
  const std::string folder = MakeTestFolder();
  ASSERT_TRUE(WriteShardedCheckpoint(folder, {}, {{"k", "v"}}, 3).ok());
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->tensors().empty());
  EXPECT_EQ(checkpoint->metadata(), (Metadata{{"k", "v"}}));
}

TEST(ShardedCheckpoint, AFolderThatHoldsACheckpointIsLeftAlone) {
  for (const char* name : {"/model.safetensors", kIndex}) {
    const std::string folder = MakeTestFolder();
    WriteTestFile(folder + name, "old");
    ExpectError(WriteShardedCheckpoint(folder, TensorsOf({"a"}), {}, 3), absl::StatusCode::kAlreadyExists,
                {folder, name + 1});
    EXPECT_THAT(NamesIn(folder), ElementsAre(name + 1));
    EXPECT_EQ(ReadTestFile(folder + name), "old");
  }
}

TEST(ShardedCheckpoint, OtherFilesInTheFolderDoNotMatter) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/config.json", "{}");
  EXPECT_TRUE(WriteShardedCheckpoint(folder, TensorsOf({"a"}), {}, 3).ok());
}

TEST(ShardedCheckpoint, BadTensorsAreRefusedBeforeAnythingIsWritten) {
  const std::string folder = MakeTestFolder();
  std::vector<TensorData> twice = TensorsOf({"a", "b", "c"});
  twice[2].spec.name = "t0";
  ExpectError(WriteShardedCheckpoint(folder, twice, {}, 1), absl::StatusCode::kInvalidArgument, {"\"t0\"", "twice"});
  std::vector<TensorData> wrong_size = TensorsOf({"a", "b"});
  wrong_size[1].data = "";
  ExpectError(WriteShardedCheckpoint(folder, wrong_size, {}, 1), absl::StatusCode::kInvalidArgument, {"\"t1\""});
  ExpectError(WriteShardedCheckpoint(folder, TensorsOf({"a"}), {}, 0), absl::StatusCode::kInvalidArgument, {"0 bytes"});
  ExpectError(WriteShardedCheckpoint(folder, TensorsOf({"a"}), {{"k", "\xff"}}, 1), absl::StatusCode::kInvalidArgument,
              {"UTF-8"});
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(ShardedCheckpoint, AfterAnErrorItsShardsAreRemoved) {
  const std::string folder = MakeTestFolder();
  // A tensor whose bytes cannot be read: the view is of the null page, and write() answers EFAULT.
  std::vector<TensorData> tensors = TensorsOf({"a", "b"});
  tensors[1].data = absl::string_view(reinterpret_cast<const char*>(uintptr_t{16}), 1);
  EXPECT_FALSE(WriteShardedCheckpoint(folder, tensors, {}, 1).ok());
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(ShardedCheckpoint, AFolderThatIsAFileIsAnError) {
  const std::string path = MakeTestFolder() + "/f";
  WriteTestFile(path, "x");
  const absl::Status status = WriteShardedCheckpoint(path, {}, {}, 1);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(path));
}

}  // namespace
}  // namespace weightstream
