// Writes safetensors files, and Hugging Face checkpoint folders of several of them.
#ifndef WEIGHTSTREAM_TENSOR_SAFETENSORS_WRITER_H_
#define WEIGHTSTREAM_TENSOR_SAFETENSORS_WRITER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensor/atomic_file.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// One file, written tensor by tensor or range by range, visible under its path only once Finish has returned OK: the
// bytes go to a temporary file beside it, which is renamed. A writer that is destroyed before leaves nothing behind.
// Write may be called from several threads for ranges that do not overlap.
class SafetensorsWriter {
 public:
  // Creates the temporary file and writes the header. Errors carry the path and errno's text; a full disk is
  // RESOURCE_EXHAUSTED, here or in Write or Finish. INVALID_ARGUMENT for a layout that is not from LayOutSafetensors or
  // ParseSafetensors.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path, SafetensorsLayout layout);

  ~SafetensorsWriter() = default;
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // Writes bytes of the data section, from `offset` on. OUT_OF_RANGE past its end; FAILED_PRECONDITION after Finish.
  absl::Status Write(uint64_t offset, absl::string_view bytes);

  // Syncs, renames, and syncs the folder. Whether every byte was written is the caller's to know; what was not is zero.
  absl::Status Finish();

  const SafetensorsLayout& layout() const { return layout_; }

 private:
  SafetensorsWriter(std::string path, std::unique_ptr<AtomicFile> file, SafetensorsLayout layout);

  const std::string path_;
  const std::unique_ptr<AtomicFile> file_;
  const SafetensorsLayout layout_;
};

// A tensor and its bytes, which may lie in a mapped file larger than memory: they are read once, in order, and not
// kept.
struct TensorData {
  TensorSpec spec;
  absl::string_view data;
};

// INVALID_ARGUMENT unless the data are of the size that dtype and shape say.
absl::Status CheckTensorData(const TensorData& tensor);

// Writes the tensors to one file, replacing what is there. INVALID_ARGUMENT as CheckTensorData and
// LayOutSafetensors.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorData> tensors, Metadata metadata);

// Writes model-00001-of-0000N.safetensors ... and model.safetensors.index.json into `folder` (made if missing), tensors
// in the order given, a new shard begun where the next tensor would take it over `shard_bytes`. The index comes last,
// so that a folder is never taken for a checkpoint before it is one. After an error the shards written so far are
// removed. Without tensors it writes model.safetensors alone, for the metadata.
// ALREADY_EXISTS if the folder holds .safetensors files or an index already: a folder cannot be replaced atomically,
// and a reader must never see shards of two checkpoints. INVALID_ARGUMENT as WriteSafetensors, before anything is
// written, and for shard_bytes of 0.
absl::Status WriteShardedCheckpoint(const std::string& folder, absl::Span<const TensorData> tensors, Metadata metadata,
                                    uint64_t shard_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_WRITER_H_
