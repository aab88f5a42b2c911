#include "tensor/checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::ElementsAre;

constexpr char kIndex[] = "/model.safetensors.index.json";

// A file of one U8 tensor.
std::string FileWith(absl::string_view name, absl::string_view data) {
  return RawSafetensors(
      absl::StrCat("{\"__metadata__\":{\"from\":\"", name, "\"},\"", name, R"(":{"dtype":"U8","shape":[)", data.size(),
                   R"(],"data_offsets":[0,)", data.size(), "]}}"),
      data);
}

// A folder with tensors "a" in 2.safetensors and "b" in 1.safetensors, and an index that says so.
std::string TwoShards() {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/2.safetensors", FileWith("a", "aaa"));
  WriteTestFile(folder + "/1.safetensors", FileWith("b", "bb"));
  WriteTestFile(folder + kIndex, R"({"weight_map":{"a":"2.safetensors","b":"1.safetensors"}})");
  return folder;
}

std::vector<std::string> Contents(const Checkpoint& checkpoint) {
  std::vector<std::string> contents;
  for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
    contents.push_back(absl::StrCat(tensor.spec.name, "=", tensor.data));
  }
  return contents;
}

void ExpectContents(const std::string& path, const std::vector<std::string>& contents) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(Contents(*checkpoint), contents);
}

void ExpectRefused(const std::string& path, const std::vector<std::string>& parts) {
  ExpectError(Checkpoint::Open(path).status(), absl::StatusCode::kInvalidArgument, parts);
}

TEST(Checkpoint, OpensAFile) {
  const std::string path = MakeTestFolder() + "/any-name.bin";
  WriteTestFile(path, FileWith("w", "hello"));
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(Contents(*checkpoint), ElementsAre("w=hello"));
  EXPECT_EQ(checkpoint->tensors()[0].spec, (TensorSpec{"w", DType::kU8, {5}}));
  EXPECT_EQ(checkpoint->metadata(), (Metadata{{"from", "w"}}));
  EXPECT_EQ(checkpoint->total_bytes(), 5u);
}

TEST(Checkpoint, TensorsComeByPlaceInTheFile) {
  const std::string path = MakeTestFolder() + "/f";
  WriteTestFile(path, RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                                     R"("e":{"dtype":"U8","shape":[0],"data_offsets":[3,3]},)"
                                     R"("z":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                                     "zza"));
  ExpectContents(path, {"z=zz", "a=a", "e="});
}

TEST(Checkpoint, AFolderWithoutAnIndexIsItsSingleFile) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/README.md", "text");
  WriteTestFile(folder + "/adapter.safetensors", FileWith("x", "only"));
  ExpectContents(folder, {"x=only"});
  WriteTestFile(folder + "/model.safetensors", FileWith("m", "model"));
  ExpectContents(folder, {"m=model"});
}

TEST(Checkpoint, AFolderWithAnIndexIsItsShardsInTheirOrder) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + "/model.safetensors", FileWith("m", "not this"));
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(Contents(*checkpoint), ElementsAre("b=bb", "a=aaa"));
  EXPECT_EQ(checkpoint->metadata(), (Metadata{{"from", "b"}}));
  EXPECT_EQ(checkpoint->total_bytes(), 5u);
}

TEST(Checkpoint, SymbolicLinksAreFollowedAsInHuggingFacesCache) {
  const std::string blobs = TwoShards();
  const std::string folder = MakeTestFolder();
  for (const char* name : {"/1.safetensors", "/2.safetensors", kIndex}) {
    ASSERT_EQ(symlink((blobs + name).c_str(), (folder + name).c_str()), 0);
  }
  ExpectContents(folder, {"b=bb", "a=aaa"});
}

TEST(Checkpoint, StaysReadableAfterItIsMoved) {
  absl::StatusOr<Checkpoint> opened = Checkpoint::Open(TwoShards());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Checkpoint moved = *std::move(opened);
  EXPECT_THAT(Contents(moved), ElementsAre("b=bb", "a=aaa"));
}

TEST(Checkpoint, WhatIsMissingIsNotFound) {
  const std::string folder = MakeTestFolder();
  ExpectError(Checkpoint::Open(folder + "/none").status(), absl::StatusCode::kNotFound, {folder + "/none"});
  ExpectError(Checkpoint::Open(folder).status(), absl::StatusCode::kNotFound, {folder, "no .safetensors file"});
}

TEST(Checkpoint, SeveralFilesWithoutAnIndexAreRefused) {
  const std::string folder = TwoShards();
  ASSERT_EQ(unlink((folder + kIndex).c_str()), 0);
  ExpectRefused(folder, {folder, "2 .safetensors files", "index"});
}

TEST(Checkpoint, OneShardOfSeveralWithoutAnIndexIsRefused) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/model-00001-of-00002.safetensors", FileWith("a", "a"));
  ExpectRefused(folder, {"model-00001-of-00002.safetensors", "one shard of several"});
  ExpectContents(folder + "/model-00001-of-00002.safetensors", {"a=a"});
}

TEST(Checkpoint, AllOfOneShardWithoutAnIndexIsAWhole) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/model-00001-of-00001.safetensors", FileWith("a", "a"));
  ExpectContents(folder, {"a=a"});
}

TEST(Checkpoint, AnIndexThatIsADanglingLinkIsNotPassedOver) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/model.safetensors", FileWith("m", "model"));
  ASSERT_EQ(symlink("none", (folder + kIndex).c_str()), 0);
  ExpectError(Checkpoint::Open(folder).status(), absl::StatusCode::kNotFound, {kIndex});
}

TEST(Checkpoint, ACorruptIndexIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + kIndex, "{\"weight_map\":");
  ExpectRefused(folder, {kIndex, "not valid JSON"});
}

TEST(Checkpoint, AMissingShardIsNotFoundAndNamed) {
  const std::string folder = TwoShards();
  ASSERT_EQ(unlink((folder + "/2.safetensors").c_str()), 0);
  ExpectError(Checkpoint::Open(folder).status(), absl::StatusCode::kNotFound, {"/2.safetensors", kIndex});
}

TEST(Checkpoint, ATruncatedShardIsRefused) {
  const std::string folder = TwoShards();
  const std::string bytes = FileWith("a", "aaa");
  WriteTestFile(folder + "/2.safetensors", absl::string_view(bytes).substr(0, bytes.size() - 1));
  ExpectRefused(folder, {"/2.safetensors", "truncated"});
}

TEST(Checkpoint, AnEmptyShardIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + "/2.safetensors", "");
  ExpectRefused(folder, {"/2.safetensors", "too short"});
}

TEST(Checkpoint, ACorruptShardIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + "/2.safetensors", std::string(100, 'x'));
  ExpectRefused(folder, {"/2.safetensors", "is this a safetensors file?"});
}

TEST(Checkpoint, ATensorThatItsShardLacksIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + kIndex, R"({"weight_map":{"a":"2.safetensors","b":"1.safetensors","c":"1.safetensors"}})");
  ExpectRefused(folder, {"/1.safetensors", "\"c\"", "lacks"});
}

TEST(Checkpoint, ATensorInTwoShardsIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + "/2.safetensors", FileWith("b", "bb"));
  ExpectRefused(folder, {"\"b\"", "two shards", "/1.safetensors", "/2.safetensors"});
}

TEST(Checkpoint, ATensorThatTheIndexDoesNotNameIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + "/2.safetensors", RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                          R"("extra":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                                          "ae"));
  ExpectRefused(folder, {"/2.safetensors", "\"extra\"", "index"});
}

TEST(Checkpoint, AShardOutsideTheFolderIsRefused) {
  const std::string folder = TwoShards();
  WriteTestFile(folder + kIndex, R"({"weight_map":{"a":"../2.safetensors"}})");
  ExpectRefused(folder, {kIndex, "\"a\"", "../2.safetensors"});
}

TEST(Checkpoint, AShardThatIsAFolderIsRefused) {
  const std::string folder = TwoShards();
  ASSERT_EQ(unlink((folder + "/2.safetensors").c_str()), 0);
  ASSERT_EQ(mkdir((folder + "/2.safetensors").c_str(), 0700), 0);
  ExpectRefused(folder, {"/2.safetensors", "folder"});
}

std::string FingerprintOf(const std::string& path) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint->fingerprint();
}

void SetModified(const std::string& path, long nanoseconds) {
  const timespec times[2] = {{1'000'000'000, nanoseconds}, {1'000'000'000, nanoseconds}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST(Fingerprint, IsTheSameForTheSameFiles) {
  const std::string folder = TwoShards();
  const std::string fingerprint = FingerprintOf(folder);
  EXPECT_EQ(fingerprint.size(), 32u);
  EXPECT_EQ(FingerprintOf(folder), fingerprint);
  EXPECT_EQ(FingerprintOf(folder + "/"), fingerprint);
  EXPECT_NE(FingerprintOf(TwoShards()), fingerprint);
}

TEST(Fingerprint, ChangesWithTimeSizeNameAndFile) {
  const std::string folder = TwoShards();
  const std::string shard = folder + "/2.safetensors";
  SetModified(shard, 1);
  std::vector<std::string> seen = {FingerprintOf(folder)};
  SetModified(shard, 2);
  seen.push_back(FingerprintOf(folder));
  WriteTestFile(shard, FileWith("a", "aaaa"));
  SetModified(shard, 2);
  seen.push_back(FingerprintOf(folder));
  ASSERT_EQ(rename(shard.c_str(), (folder + "/3.safetensors").c_str()), 0);
  WriteTestFile(folder + kIndex, R"({"weight_map":{"a":"3.safetensors","b":"1.safetensors"}})");
  seen.push_back(FingerprintOf(folder));
  WriteTestFile(folder + "/new", FileWith("a", "aaaa"));
  SetModified(folder + "/new", 2);
  ASSERT_EQ(rename((folder + "/new").c_str(), (folder + "/3.safetensors").c_str()), 0);
  seen.push_back(FingerprintOf(folder));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
}

TEST(CheckUnchanged, PassesWhereNothingWasWritten) {
  const std::string folder = TwoShards();
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  WriteTestFile(folder + "/another", "file");
  EXPECT_EQ(checkpoint->CheckUnchanged(), absl::OkStatus());
}

TEST(CheckUnchanged, NamesTheFileThatWasWrittenInPlace) {
  const std::string folder = TwoShards();
  SetModified(folder + "/2.safetensors", 1);
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  // Of the same size, and a nanosecond later.
  WriteTestFile(folder + "/2.safetensors", FileWith("a", "AAA"));
  SetModified(folder + "/2.safetensors", 2);
  ExpectError(checkpoint->CheckUnchanged(), absl::StatusCode::kFailedPrecondition,
              {folder + "/2.safetensors", "was written"});
}

TEST(CheckUnchanged, NamesTheFileThatWasReplacedOrRemoved) {
  const std::string folder = TwoShards();
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  ASSERT_EQ(rename((folder + "/1.safetensors").c_str(), (folder + "/2.safetensors").c_str()), 0);
  ExpectError(checkpoint->CheckUnchanged(), absl::StatusCode::kFailedPrecondition,
              {folder + "/1.safetensors", "though it was there"});
  WriteTestFile(folder + "/1.safetensors", FileWith("b", "bb"));
  ExpectError(checkpoint->CheckUnchanged(), absl::StatusCode::kFailedPrecondition,
              {folder + "/1.safetensors", "was replaced"});
}

}  // namespace
}  // namespace weightstream
