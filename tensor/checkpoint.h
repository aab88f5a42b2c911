// A checkpoint on disk, memory-mapped for reading: one .safetensors file, or a Hugging Face folder of them.
#ifndef WEIGHTSTREAM_TENSOR_CHECKPOINT_H_
#define WEIGHTSTREAM_TENSOR_CHECKPOINT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/mapped_file.h"
#include "tensor/safetensors_layout.h"
#include "tensor/spec.h"

namespace weightstream {

// The tensors of a checkpoint and their bytes.
//
//   absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open("/models/llama");
//   for (const Checkpoint::Tensor& tensor : checkpoint->tensors()) Use(tensor.spec, tensor.data);
//
// Immutable after Open; may be read from any thread. The bytes are pages of the files: a file that is truncated while
// it is open makes a read of the lost part raise SIGBUS, as with every memory map.
class Checkpoint {
 public:
  struct Tensor {
    TensorSpec spec;
    // Row-major bytes; lives as long as the Checkpoint. data() may be null where empty.
    absl::string_view data;
  };

  // `path` is a .safetensors file, or a folder: with model.safetensors.index.json and its shards, or else with a
  // model.safetensors, or else with exactly one .safetensors file. Symbolic links are followed. Errors name the file,
  // the tensor and what to do: NOT_FOUND for a missing file or shard, INVALID_ARGUMENT for a corrupt header, a
  // truncated file, an index that names a tensor that its shard lacks, a tensor that two shards hold, or a tensor in a
  // shard that the index does not name; a shard's name with a path in it; a folder whose one file is a shard of
  // several.
  static absl::StatusOr<Checkpoint> Open(const std::string& path);

  // In the order of the shards' names, then of the place in the file: reading in this order reads the disk in order.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Of the first shard (the others' must not contradict it; where they do, the first wins).
  const Metadata& metadata() const { return metadata_; }
  uint64_t total_bytes() const { return total_bytes_; }

  // Names this very content by the names, sizes, devices, inodes and modification times of the files that hold tensors:
  // equal after a second Open of the same files, in any process; different once one was written (unless within the few
  // milliseconds that are one step of the file system's clock). 32 hexadecimal digits.
  const std::string& fingerprint() const { return fingerprint_; }

  // Looks at each of those files again. FAILED_PRECONDITION, naming the first that was written, replaced or removed
  // after Open: what was read since may be a mixture. Limits as MappedFile::CheckUnchanged.
  absl::Status CheckUnchanged() const;

 private:
  Checkpoint() = default;

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<Tensor> tensors_;
  Metadata metadata_;
  uint64_t total_bytes_ = 0;
  std::string fingerprint_;

  friend class CheckpointReader;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_CHECKPOINT_H_
