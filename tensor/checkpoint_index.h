// model.safetensors.index.json: which shard of a Hugging Face checkpoint holds which tensor.
#ifndef WEIGHTSTREAM_TENSOR_CHECKPOINT_INDEX_H_
#define WEIGHTSTREAM_TENSOR_CHECKPOINT_INDEX_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

inline constexpr absl::string_view kCheckpointIndexName = "model.safetensors.index.json";

struct CheckpointIndex {
  // By the shard's file name, the names of the tensors that it holds.
  std::map<std::string, absl::flat_hash_set<std::string>> shards;
};

// Parses {"metadata": {...}, "weight_map": {TENSOR: SHARD, ...}}. What else the file has is skipped, the metadata too:
// its total_size is wrong in many a published checkpoint. INVALID_ARGUMENT names `path` (for the message only) and the
// rule: valid JSON, one weight_map of strings, no tensor twice, shards that are plain file names. Pure, any thread.
absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view path, absl::string_view json);

// The text of an index. Requires UTF-8 names and no tensor in two shards. Pure, any thread.
std::string EncodeCheckpointIndex(const CheckpointIndex& index, uint64_t total_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_CHECKPOINT_INDEX_H_
