#include "tensor/checkpoint_index.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::Pair;
using testing::UnorderedElementsAre;

void ExpectRefused(absl::string_view json, const std::string& part) {
  const absl::Status status = ParseCheckpointIndex("dir/index.json", json).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("dir/index.json"), testing::HasSubstr(part)));
}

TEST(CheckpointIndex, MapsShardsToTheirTensors) {
  const absl::StatusOr<CheckpointIndex> index = ParseCheckpointIndex("p", R"(
      {"metadata": {"total_size": 1.5e3, "weight_map": {"x": 1}, "more": [[{"a": null}], true]}, "other": -1,
       "weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}})");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(index->shards, UnorderedElementsAre(Pair("1.safetensors", UnorderedElementsAre("a", "c")),
                                                  Pair("2.safetensors", UnorderedElementsAre("b"))));
}

TEST(CheckpointIndex, WhatIsNoIndexIsRefused) {
  ExpectRefused("", "not valid JSON");
  ExpectRefused("{", "not valid JSON");
  ExpectRefused("[]", "an array");
  ExpectRefused("1", "a number");
  ExpectRefused("\"weight_map\"", "a string");
  ExpectRefused("{}", "no weight_map");
  ExpectRefused(R"({"weight_map": null})", "must be an object, not null");
  ExpectRefused(R"({"weight_map": []})", "must be an object, not an array");
  ExpectRefused(R"({"weight_map": "x"})", "must be an object, not a string");
  ExpectRefused(R"({"weight_map": {}, "weight_map": {}})", "weight_map occurs twice");
  ExpectRefused("{\"weight_map\": {\"\xff\": \"f\"}}", "UTF-8");
}

TEST(CheckpointIndex, TensorsOccurOnceWithValidNames) {
  ExpectRefused(R"({"weight_map": {"a": "1", "a": "1"}})", "\"a\" occurs twice");
  ExpectRefused(R"({"weight_map": {"": "1"}})", "empty");
  ExpectRefused(R"({"weight_map": {"__metadata__": "1"}})", "__metadata__");
}

TEST(CheckpointIndex, ShardsArePlainFileNames) {
  for (const char* shard : {"\"\"", "\".\"", "\"..\"", "\"../a\"", "\"/a\"", "\"a/b\"", R"("a\u0000")"}) {
    ExpectRefused(std::string(R"({"weight_map": {"t": )") + shard + "}}", "\"t\"");
  }
  for (const char* shard : {"1", "null", "{}", "[]", "true", "1.5", "-1"}) {
    ExpectRefused(std::string(R"({"weight_map": {"t": )") + shard + "}}", "\"t\"");
  }
  EXPECT_TRUE(ParseCheckpointIndex("p", R"({"weight_map": {"t": "a..b.safetensors"}})").ok());
}

TEST(CheckpointIndex, DeepNestingIsRefused) {
  ExpectRefused("{\"metadata\":" + std::string(100'000, '['), "levels deep");
}

TEST(CheckpointIndex, EncodesInTheFormOfHuggingFace) {
  CheckpointIndex index;
  index.shards["2.safetensors"] = {"a"};
  index.shards["1.safetensors"] = {"c", "b\""};
  EXPECT_EQ(EncodeCheckpointIndex(index, 12),
            "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n"
            "    \"a\": \"2.safetensors\",\n    \"b\\\"\": \"1.safetensors\",\n    \"c\": \"1.safetensors\"\n  }\n}\n");
  EXPECT_EQ(ParseCheckpointIndex("p", EncodeCheckpointIndex(index, 12))->shards, index.shards);
}

}  // namespace
}  // namespace weightstream
