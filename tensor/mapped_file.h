// A file mapped read-only into memory.
#ifndef WEIGHTSTREAM_TENSOR_MAPPED_FILE_H_
#define WEIGHTSTREAM_TENSOR_MAPPED_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

// Owns the mapping; unmapped on destruction. Immutable, any thread. Does not follow what happens to the path later: the
// mapping stays on the file that was opened, also after it was unlinked or replaced.
class MappedFile {
 public:
  // What stat said as the file was opened: enough to tell whether it was written or replaced since.
  struct Identity {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t bytes = 0;
    int64_t modified_ns = 0;

    friend bool operator==(const Identity&, const Identity&) = default;
  };

  // NOT_FOUND, PERMISSION_DENIED or another code by errno, with the path. A folder or a device is INVALID_ARGUMENT. An
  // empty file maps to an empty view.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  // The same of a file that is open for reading; `path` is for messages and CheckUnchanged.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Map(const FileDescriptor& file, const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::string_view bytes() const { return bytes_; }
  const Identity& identity() const { return identity_; }

  // FAILED_PRECONDITION, with the path, if the file that the path names now is not as it was when opened: written,
  // replaced or removed. What was read in between may then be old in parts and new in others. A write within the few
  // milliseconds that are one step of the file system's clock, and of no other size, is not seen.
  absl::Status CheckUnchanged() const;

 private:
  MappedFile(std::string path, absl::string_view bytes, Identity identity)
      : path_(std::move(path)), bytes_(bytes), identity_(identity) {}

  const std::string path_;
  absl::string_view bytes_;
  Identity identity_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_MAPPED_FILE_H_
