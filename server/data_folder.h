// The data directory, and the few operations on what is in it from which the model store builds its atomic steps.
//
// Below it no symbolic link is followed, wherever one lies in a name and whenever it was put there: each component is
// opened from the one before. So whoever can write into the folder (the inference server's group, say) cannot make the
// server read or write elsewhere. FAILED_PRECONDITION names the link. `current` is a link of our own, and only read.
//
// What is made has the modes 0640 and 0750, whatever the umask; a folder inherits the set-group-ID bit, so that a group
// which the operator gave the data directory owns what is in it.
#ifndef WEIGHTSTREAM_SERVER_DATA_FOLDER_H_
#define WEIGHTSTREAM_SERVER_DATA_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

// Names are relative, as "MODEL/VERSION/model.safetensors", without . and .. in them. Errors carry the whole path and
// errno's text; a full medium is RESOURCE_EXHAUSTED. Thread-safe.
class DataFolder {
 public:
  // Makes the folder, and its parents, where missing. FAILED_PRECONDITION if somebody else may have put it there, or
  // may write into it (server/trusted_folder.h). It and what is above it may be links of this user's or root's.
  static absl::StatusOr<DataFolder> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::string PathOf(absl::string_view name) const;

  // Makes a folder, and its parents, where missing. Durable: else what is put into it could vanish with it.
  absl::Status MakeFolder(absl::string_view name) const;

  // Creates a file that must not exist, with these first bytes. It is open for reading and writing.
  absl::StatusOr<FileDescriptor> CreateFile(absl::string_view name, absl::string_view bytes) const;
  // The same of a file that may exist, which keeps its bytes.
  absl::StatusOr<FileDescriptor> CreateOrOpenFile(absl::string_view name) const;
  // For reading. Never waits, not for a named pipe either.
  absl::StatusOr<FileDescriptor> OpenFile(absl::string_view name) const;
  // Writes these bytes over the first ones of a file that must exist; what follows stays.
  absl::Status OverwriteFile(absl::string_view name, absl::string_view bytes) const;

  // Sets a file's time of modification to now.
  absl::Status SetModifiedNow(absl::string_view name) const;

  absl::Status Rename(absl::string_view from, absl::string_view to) const;

  // Makes the entries of a folder durable (what was created, renamed or removed in it).
  absl::Status SyncFolder(absl::string_view name) const;

  // Creates the symbolic link, replacing one that is there, not atomically.
  absl::Status MakeLink(absl::string_view target, absl::string_view name) const;
  // NOT_FOUND if there is none.
  absl::StatusOr<std::string> ReadLink(absl::string_view name) const;

  // Removes a file, link or folder with all that is in it; nothing there is fine.
  absl::Status RemoveAll(absl::string_view name) const;

  // Names in a folder, without . and .., sorted. The empty name is the data directory itself.
  absl::StatusOr<std::vector<std::string>> ListFolder(absl::string_view name) const;

  // What lies under a name.
  enum class Kind { kNothing, kFolder, kLink, kOther };
  absl::StatusOr<Kind> KindOf(absl::string_view name) const;

  // Bytes that can still be written to the file system: for shared memory not more than the process may fill.
  absl::StatusOr<uint64_t> FreeBytes() const;

 private:
  // Where a name's last component is to be looked for.
  struct Place {
    FileDescriptor folder;
    std::string leaf;
  };

  DataFolder(std::string path, FileDescriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::StatusOr<FileDescriptor> OpenFolder(absl::string_view name) const;
  absl::StatusOr<Place> Find(absl::string_view name) const;
  absl::StatusOr<FileDescriptor> Open(absl::string_view name, int flags, absl::string_view action) const;

  std::string path_;
  FileDescriptor fd_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_DATA_FOLDER_H_
