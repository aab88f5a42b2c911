// model.safetensors.index.json. The input is the index, read alone and, beside it, as that of a folder with two shards.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "tensor/checkpoint.h"
#include "tensor/checkpoint_index.h"
#include "tensor/spec.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/json_reference.h"
#include "tests/fuzz/temporary_folder.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

// What checkpoint_index.cc allows.
constexpr size_t kMaxDepth = 32;

void WriteFile(const fs::path& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  Require(file.good(), "the target's own folder can be written", path.string());
}

// One U8 tensor of each of these names, its one byte 7.
std::string ShardFile(absl::string_view first, absl::string_view second) {
  const std::string json = absl::StrCat("{\"", first, R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},")", second,
                                        R"(":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})");
  Require(json.size() < 256, "the length is one byte");
  return absl::StrCat(std::string(1, static_cast<char>(json.size())), std::string(7, '\0'), json, "\7\7");
}

// A checkpoint with the shards a.safetensors and b.safetensors, and a file beside its folder that no index may reach.
class Shards {
 public:
  Shards() {
    fs::create_directory(path());
    WriteFile(path() / "a.safetensors", ShardFile("a1", "a2"));
    WriteFile(path() / "b.safetensors", ShardFile("b1", "b2"));
    WriteFile(folder_.path() / "outside.safetensors", ShardFile("outside1", "outside2"));
  }

  fs::path path() const { return folder_.path() / "checkpoint"; }

 private:
  const TemporaryFolder folder_;
};

bool IsPlainName(const std::string& name) {
  return !name.empty() && fs::path(name).filename() == name && name != "." && name != ".." &&
         name.find('\0') == std::string::npos;
}

// The rules of checkpoint_index.h, over a tree of JSON.
absl::optional<CheckpointIndex> ReferenceIndex(absl::string_view text) {
  const absl::optional<JsonReference> json = ReadJson(text);
  if (!json.has_value() || !json->value.is_object() || json->depth > kMaxDepth) return absl::nullopt;
  const auto in_weight_map = [](const std::vector<std::string>& path) { return path.front() == "weight_map"; };
  if (std::any_of(json->repeated.begin(), json->repeated.end(), in_weight_map)) return absl::nullopt;
  if (!json->value.contains("weight_map") || !json->value["weight_map"].is_object()) return absl::nullopt;
  CheckpointIndex index;
  for (const auto& [tensor, shard] : json->value["weight_map"].items()) {
    if (!ValidateTensorName(tensor).ok() || !shard.is_string() || !IsPlainName(shard.get<std::string>())) {
      return absl::nullopt;
    }
    index.shards[shard.get<std::string>()].insert(tensor);
  }
  return index;
}

void CheckFolder(const Shards& shards, absl::string_view text, const absl::StatusOr<CheckpointIndex>& index) {
  WriteFile(shards.path() / std::string(kCheckpointIndexName), text);
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(shards.path().string());
  if (!checkpoint.ok()) {
    Require(absl::IsInvalidArgument(checkpoint.status()) || index.ok(), "only a good index leads to other files",
            checkpoint.status().ToString());
    return;
  }
  Require(index.ok(), "a checkpoint opens only by a good index");
  std::set<std::string> named;
  for (const auto& [shard, tensors] : index->shards) named.insert(tensors.begin(), tensors.end());
  std::set<std::string> opened;
  for (const Checkpoint::Tensor& tensor : checkpoint->tensors()) {
    Require(!absl::StartsWith(tensor.spec.name, "outside"), "an index reaches no file outside its folder");
    Require(tensor.data == "\7", "a tensor's data are the shard's");
    opened.insert(tensor.spec.name);
  }
  Require(opened == named, "a checkpoint holds what its index names");
}

}  // namespace
}  // namespace weightstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  static const Shards shards;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<CheckpointIndex> index = ParseCheckpointIndex("index", text);
  const absl::optional<CheckpointIndex> expected = ReferenceIndex(text);
  Require(index.ok() == expected.has_value(), "an index is judged by its rules", index.status().ToString());
  if (index.ok()) {
    Require(index->shards == expected->shards, "every tensor is where the tree of JSON says");
    const absl::StatusOr<CheckpointIndex> again = ParseCheckpointIndex("again", EncodeCheckpointIndex(*index, 1));
    Require(again.ok() && again->shards == index->shards, "what we write we read", again.status().ToString());
  } else {
    RequireClearError(index.status());
  }
  CheckFolder(shards, text, index);
  return 0;
}
