#include "tensor/checkpoint_index.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/json_events.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

// As a header's own cap: far above real indexes, which stay below 10 MB.
constexpr size_t kMaxIndexBytes = 100'000'000;
// Real indexes nest three levels deep.
constexpr int kMaxDepth = 32;

bool IsPlainFileName(absl::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == absl::string_view::npos &&
         name.find('\0') == absl::string_view::npos;
}

class IndexHandler : public JsonHandler {
 public:
  explicit IndexHandler(absl::string_view path) : path_(path) {}

  absl::StatusOr<CheckpointIndex> TakeIndex() && {
    if (!has_weight_map_) return IndexError("it has no weight_map; is it a checkpoint's index?");
    return std::move(index_);
  }

  absl::Status OnStartObject() override {
    if (depth_ == 1 && top_key_ == kWeightMap) {
      in_weight_map_ = true;
    } else if (in_weight_map_) {
      return OnOther("an object");
    }
    return Enter();
  }
  absl::Status OnKey(std::string key) override;
  absl::Status OnEndObject() override {
    in_weight_map_ = false;
    --depth_;
    return absl::OkStatus();
  }
  absl::Status OnStartArray() override {
    if (absl::Status status = OnOther("an array"); !status.ok()) return status;
    return Enter();
  }
  absl::Status OnEndArray() override {
    --depth_;
    return absl::OkStatus();
  }
  absl::Status OnString(std::string shard) override;
  // Legal everywhere but at the top and in the weight map.
  absl::Status OnOther(absl::string_view what) override {
    if (depth_ == 0) return IndexError(absl::StrCat("it must be a JSON object, not ", what));
    if (in_weight_map_) {
      return IndexError(
          absl::StrCat("weight_map: the shard of tensor \"", Printable(tensor_), "\" must be a string, not ", what));
    }
    if (depth_ == 1 && top_key_ == kWeightMap) {
      return IndexError(absl::StrCat("weight_map must be an object, not ", what));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr absl::string_view kWeightMap = "weight_map";

  absl::Status IndexError(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what));
  }
  absl::Status Enter() {
    if (++depth_ > kMaxDepth) return IndexError(absl::StrCat("it nests more than ", kMaxDepth, " levels deep"));
    return absl::OkStatus();
  }

  const absl::string_view path_;
  int depth_ = 0;
  std::string top_key_;
  bool in_weight_map_ = false;
  bool has_weight_map_ = false;
  std::string tensor_;
  absl::flat_hash_set<std::string> tensors_;
  CheckpointIndex index_;
};

absl::Status IndexHandler::OnKey(std::string key) {
  if (depth_ == 1) {
    if (key == kWeightMap && std::exchange(has_weight_map_, true)) return IndexError("weight_map occurs twice");
    top_key_ = std::move(key);
  } else if (in_weight_map_) {
    tensor_ = std::move(key);
    if (absl::Status status = ValidateTensorName(tensor_); !status.ok()) return IndexError(status.message());
    if (!tensors_.insert(tensor_).second) {
      return IndexError(absl::StrCat("weight_map: tensor \"", Printable(tensor_), "\" occurs twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status IndexHandler::OnString(std::string shard) {
  if (!in_weight_map_) return OnOther("a string");
  if (!IsPlainFileName(shard)) {
    return IndexError(absl::StrCat("weight_map: the shard of tensor \"", Printable(tensor_), "\" is \"",
                                   Printable(shard), "\"; it must be the name of a file in the same folder"));
  }
  index_.shards[std::move(shard)].insert(std::move(tensor_));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view path, absl::string_view json) {
  if (json.size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the index is ", json.size(), " bytes long; the most that is read is ", kMaxIndexBytes));
  }
  IndexHandler handler(path);
  if (absl::Status status = ParseJson(path, json, handler); !status.ok()) return status;
  return std::move(handler).TakeIndex();
}

std::string EncodeCheckpointIndex(const CheckpointIndex& index, uint64_t total_bytes) {
  // By name, so that equal checkpoints have equal indexes.
  std::map<absl::string_view, absl::string_view> shard_of;
  for (const auto& [shard, tensors] : index.shards) {
    for (const std::string& tensor : tensors) shard_of.emplace(tensor, shard);
  }
  const auto append_line = [](std::string* out, const std::pair<const absl::string_view, absl::string_view>& pair) {
    absl::StrAppend(out, "\n    ", JsonString(pair.first), ": ", JsonString(pair.second));
  };
  return absl::StrCat("{\n  \"metadata\": {\n    \"total_size\": ", total_bytes, "\n  },\n  \"weight_map\": {",
                      absl::StrJoin(shard_of, ",", append_line), "\n  }\n}\n");
}

}  // namespace weightstream
