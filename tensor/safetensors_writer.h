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
#include "tensor/safetensors_layout.h"

namespace weightstream {

// One file, written tensor by tensor or range by range, visible under its path only once Finish has returned OK: the
// bytes go to a temporary file beside it, which is renamed. A writer that is destroyed before leaves nothing behind.
// Write may be called from several threads for ranges that do not overlap.
class SafetensorsWriter {
 public:
  // Creates the temporary file and writes the header. Errors carry the path and errno's text; a full disk is
  // RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path, SafetensorsLayout layout);

  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // Writes bytes of the data section, from `offset` on. OUT_OF_RANGE past its end.
  absl::Status Write(uint64_t offset, absl::string_view bytes);

  // Syncs and renames. Whether every byte was written is the caller's to know; what was not is zero.
  absl::Status Finish();

  const SafetensorsLayout& layout() const { return layout_; }

 private:
  SafetensorsWriter(std::string path, std::string temporary_path, int fd, SafetensorsLayout layout);

  const std::string path_;
  const std::string temporary_path_;
  int fd_;
  const SafetensorsLayout layout_;
};

struct TensorData {
  TensorSpec spec;
  absl::string_view data;
};

// Writes the tensors to one file. INVALID_ARGUMENT if a tensor's data are not of its size.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorData> tensors, Metadata metadata);

// Writes model-00001-of-0000N.safetensors ... and model.safetensors.index.json into `folder` (made if missing), tensors in
// the order given, a new shard begun where the next tensor would take it over `shard_bytes`.
absl::Status WriteShardedCheckpoint(const std::string& folder, absl::Span<const TensorData> tensors, Metadata metadata,
                                    uint64_t shard_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_WRITER_H_
