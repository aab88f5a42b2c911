// A file that appears under its path whole or not at all.
#ifndef WEIGHTSTREAM_TENSOR_ATOMIC_FILE_H_
#define WEIGHTSTREAM_TENSOR_ATOMIC_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Writes all of `bytes` at `offset` of an open file, however many calls it takes. `path` is for the error only, which
// carries errno's text; a full disk is RESOURCE_EXHAUSTED. Any thread.
absl::Status WriteFully(int fd, const std::string& path, uint64_t offset, absl::string_view bytes);

// Makes the entries of a folder durable (what was created, renamed or removed in it).
absl::Status SyncFolder(const std::string& folder);

// Collects bytes in a hidden temporary file beside `path`, and renames it to `path` when it is published; a file that
// was there is replaced. Destroyed before, it removes the temporary file. A process that is killed leaves it: its name
// starts with a dot and ends in ".tmp". Write may be called from several threads for ranges that do not overlap;
// everything else from one at a time.
class AtomicFile {
 public:
  // Creates the temporary file, `bytes` long and zero throughout, without allocating its blocks.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(const std::string& path, uint64_t bytes);

  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // FAILED_PRECONDITION after Publish; otherwise as WriteFully.
  absl::Status Write(uint64_t offset, absl::string_view bytes);

  // Syncs the bytes, renames the file, and syncs its folder. FAILED_PRECONDITION if it was published already. If only
  // the folder's sync fails, the file is at `path` although the result is an error.
  absl::Status Publish();

 private:
  AtomicFile(std::string path, std::string temporary_path, int fd);

  const std::string path_;
  const std::string temporary_path_;
  // -1 once published.
  int fd_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_ATOMIC_FILE_H_
