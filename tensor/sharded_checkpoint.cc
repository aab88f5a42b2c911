#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tensor/atomic_file.h"
#include "tensor/checkpoint_index.h"
#include "tensor/safetensors_writer.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

using Shard = absl::Span<const TensorData>;

// Neighbours stay together: a shard is a run of the tensors.
std::vector<Shard> SplitIntoShards(absl::Span<const TensorData> tensors, uint64_t shard_bytes) {
  std::vector<Shard> shards;
  size_t begin = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t tensor_bytes = tensors[i].data.size();
    if (i > begin && (bytes > shard_bytes || tensor_bytes > shard_bytes - bytes)) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += tensor_bytes;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

absl::StatusOr<uint64_t> ValidateTensors(absl::Span<const TensorData> tensors) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const TensorData& tensor : tensors) {
    if (absl::Status status = CheckTensorData(tensor); !status.ok()) return status;
    specs.push_back(tensor.spec);
  }
  return ValidateManifest(specs);
}

absl::Status CannotUse(const std::string& folder, std::error_code error) {
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot use the folder ", folder));
}

// Makes `folder` if it is missing, and refuses one that holds a checkpoint or a part of one.
absl::Status PrepareFolder(const std::string& folder) {
  std::error_code error;
  const bool is_new = fs::create_directories(folder, error);
  if (error) return CannotUse(folder, error);
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, ".safetensors") || name == kCheckpointIndexName) {
      return absl::AlreadyExistsError(
          absl::StrCat(folder, " holds ", name, " already; name another folder, or remove the old checkpoint first"));
    }
  }
  if (error) return CannotUse(folder, error);
  const std::string parent = fs::path(folder).lexically_normal().parent_path().string();
  return is_new ? SyncFolder(parent.empty() ? "." : parent) : absl::OkStatus();
}

absl::Status WriteIndex(const std::string& folder, const CheckpointIndex& index, uint64_t total_bytes) {
  const std::string text = EncodeCheckpointIndex(index, total_bytes);
  const absl::StatusOr<std::unique_ptr<AtomicFile>> file =
      AtomicFile::Create(absl::StrCat(folder, "/", kCheckpointIndexName), text.size());
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(0, text); !status.ok()) return status;
  return (*file)->Publish();
}

}  // namespace

absl::Status WriteShardedCheckpoint(const std::string& folder, absl::Span<const TensorData> tensors, Metadata metadata,
                                    uint64_t shard_bytes) {
  if (shard_bytes == 0) return absl::InvalidArgumentError("shards of 0 bytes hold nothing; choose a larger size");
  const absl::StatusOr<uint64_t> total_bytes = ValidateTensors(tensors);
  if (!total_bytes.ok()) return total_bytes.status();
  if (absl::Status status = PrepareFolder(folder); !status.ok()) return status;

  // An index without tensors would name no shard, and the metadata would be lost.
  if (tensors.empty()) return WriteSafetensors(absl::StrCat(folder, "/model.safetensors"), {}, std::move(metadata));

  std::vector<std::string> written;
  absl::Cleanup remove_shards = [&written] {
    std::error_code ignored;  // What cannot be removed stays, without an index: readers refuse it.
    for (const std::string& path : written) fs::remove(path, ignored);
  };
  const std::vector<Shard> shards = SplitIntoShards(tensors, shard_bytes);
  CheckpointIndex index;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    const std::string path = absl::StrCat(folder, "/", name);
    written.push_back(path);
    if (absl::Status status = WriteSafetensors(path, shards[i], metadata); !status.ok()) return status;
    for (const TensorData& tensor : shards[i]) index.shards[name].insert(tensor.spec.name);
  }
  if (absl::Status status = WriteIndex(folder, index, *total_bytes); !status.ok()) return status;
  std::move(remove_shards).Cancel();
  return absl::OkStatus();
}

}  // namespace weightstream
