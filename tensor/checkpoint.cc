#include "tensor/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tensor/checkpoint_index.h"
#include "tensor/stable_hash.h"

namespace weightstream {

namespace fs = std::filesystem;

// Builds a Checkpoint file by file.
class CheckpointReader {
 public:
  // Maps and parses one file. `expected` are the tensors that an index puts there, null where there is no index.
  absl::Status AddFile(const std::string& path, const absl::flat_hash_set<std::string>* expected);

  Checkpoint Take() && {
    checkpoint_.fingerprint_ = hash_.Hex();
    return std::move(checkpoint_);
  }

 private:
  absl::Status AddTensor(const std::string& path, PlacedTensor tensor, absl::string_view data_section);

  Checkpoint checkpoint_;
  StableHash hash_;
  // Which file each tensor came from.
  absl::flat_hash_map<std::string, std::string> file_of_;
};

namespace {

constexpr absl::string_view kSingleFileName = "model.safetensors";
constexpr absl::string_view kExtension = ".safetensors";

absl::Status CheckAgainstIndex(const std::string& path, const SafetensorsLayout& layout,
                               const absl::flat_hash_set<std::string>& expected) {
  absl::flat_hash_set<absl::string_view> found;
  for (const PlacedTensor& tensor : layout.tensors) {
    if (!expected.contains(tensor.spec.name)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", Printable(tensor.spec.name),
                                                     "\" is not what ", kCheckpointIndexName,
                                                     " puts into this shard; the folder mixes checkpoints"));
    }
    found.insert(tensor.spec.name);
  }
  for (const std::string& name : expected) {
    if (!found.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", kCheckpointIndexName, " puts tensor \"",
                                                     Printable(name),
                                                     "\" into this shard, which lacks it; fetch the checkpoint again"));
    }
  }
  return absl::OkStatus();
}

void AddIdentity(StableHash& hash, const std::string& path, const MappedFile::Identity& identity) {
  hash.AddString(fs::path(path).filename().string());
  hash.AddNumber(identity.device);
  hash.AddNumber(identity.inode);
  hash.AddNumber(identity.bytes);
  hash.AddNumber(static_cast<uint64_t>(identity.modified_ns));
}

// True for a name as "model-00002-of-00005.safetensors": without its index, it may be any part of the whole.
bool IsOneShardOfSeveral(absl::string_view name) {
  absl::ConsumeSuffix(&name, kExtension);
  const std::vector<absl::string_view> words = absl::StrSplit(name, '-');
  uint64_t number = 0;
  uint64_t count = 0;
  return words.size() >= 3 && words[words.size() - 2] == "of" && absl::SimpleAtoi(words[words.size() - 3], &number) &&
         absl::SimpleAtoi(words.back(), &count) && count != 1;
}

// True also for a symbolic link that leads nowhere: then the file is part of the checkpoint, and missing.
bool HasEntry(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

absl::StatusOr<std::string> OnlyFileIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (absl::EndsWith(name, kExtension)) names.push_back(std::move(name));
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", folder));
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, " holds no .safetensors file; name a checkpoint's folder or file"));
  }
  if (names.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(folder, " holds ", names.size(), " .safetensors files but no ",
                                                   kCheckpointIndexName, "; add the index, or name one file"));
  }
  if (IsOneShardOfSeveral(names.front())) {
    return absl::InvalidArgumentError(absl::StrCat(folder, " holds ", names.front(), ", one shard of several, but no ",
                                                   kCheckpointIndexName, "; fetch the checkpoint again"));
  }
  return absl::StrCat(folder, "/", names.front());
}

absl::Status AddShards(const std::string& folder, const std::string& index_path, CheckpointReader& reader) {
  const absl::StatusOr<std::unique_ptr<MappedFile>> index_file = MappedFile::Open(index_path);
  if (!index_file.ok()) return index_file.status();
  const absl::StatusOr<CheckpointIndex> index = ParseCheckpointIndex(index_path, (*index_file)->bytes());
  if (!index.ok()) return index.status();
  for (const auto& [shard, tensors] : index->shards) {
    const std::string path = absl::StrCat(folder, "/", shard);
    absl::Status status = reader.AddFile(path, &tensors);
    if (absl::IsNotFound(status)) {
      return absl::NotFoundError(absl::StrCat(status.message(), "; ", index_path, " names this shard"));
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AddFolder(const std::string& folder, CheckpointReader& reader) {
  const std::string index_path = absl::StrCat(folder, "/", kCheckpointIndexName);
  if (HasEntry(index_path)) return AddShards(folder, index_path, reader);
  const std::string single_path = absl::StrCat(folder, "/", kSingleFileName);
  if (HasEntry(single_path)) return reader.AddFile(single_path, nullptr);
  const absl::StatusOr<std::string> only_path = OnlyFileIn(folder);
  if (!only_path.ok()) return only_path.status();
  return reader.AddFile(*only_path, nullptr);
}

}  // namespace

absl::Status CheckpointReader::AddFile(const std::string& path, const absl::flat_hash_set<std::string>* expected) {
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const absl::string_view bytes = (*file)->bytes();
  absl::StatusOr<SafetensorsLayout> layout = ParseSafetensors(path, bytes, bytes.size());
  if (!layout.ok()) return layout.status();
  for (PlacedTensor& tensor : layout->tensors) {
    if (absl::Status status = AddTensor(path, tensor, bytes.substr(layout->data_start)); !status.ok()) return status;
  }
  // After the check for tensors in two shards, which says more about what is wrong.
  if (expected != nullptr) {
    if (absl::Status status = CheckAgainstIndex(path, *layout, *expected); !status.ok()) return status;
  }
  if (checkpoint_.files_.empty()) checkpoint_.metadata_ = std::move(layout->metadata);
  checkpoint_.total_bytes_ += layout->data_bytes;
  AddIdentity(hash_, path, (*file)->identity());
  checkpoint_.files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status CheckpointReader::AddTensor(const std::string& path, PlacedTensor tensor, absl::string_view data_section) {
  const auto [it, is_new] = file_of_.emplace(tensor.spec.name, path);
  if (!is_new) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(tensor.spec.name), "\" is in two shards, ",
                                                   it->second, " and ", path, "; the folder mixes checkpoints"));
  }
  const absl::string_view data = data_section.substr(tensor.range.begin, tensor.range.size());
  checkpoint_.tensors_.push_back({.spec = std::move(tensor.spec), .data = data});
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path) {
  CheckpointReader reader;
  std::error_code error;
  const absl::Status status = fs::is_directory(path, error) ? AddFolder(path, reader) : reader.AddFile(path, nullptr);
  if (!status.ok()) return status;
  return std::move(reader).Take();
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const std::unique_ptr<MappedFile>& file : files_) {
    if (absl::Status status = file->CheckUnchanged(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace weightstream
