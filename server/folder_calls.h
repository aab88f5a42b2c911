// System calls on folders by open descriptors, with errors that name the path and the remedy.
#ifndef WEIGHTSTREAM_SERVER_FOLDER_CALLS_H_
#define WEIGHTSTREAM_SERVER_FOLDER_CALLS_H_

#include <fcntl.h>
#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

// Readable, unlike O_PATH: it is listed and synced through it.
constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// "WHAT PATH: errno's text; remedy", with the code that errno has; RESOURCE_EXHAUSTED of a full medium or quota.
absl::Status ErrnoStatus(int error, absl::string_view what, absl::string_view path);

// Why `name` in the open folder could not be opened; `path` is its whole path. FAILED_PRECONDITION of a symbolic link
// and of what is no folder.
absl::Status OpenError(int error, int folder, const std::string& name, absl::string_view what, absl::string_view path);

// Past the umask. The bit that a folder inherits from its parent stays.
absl::Status SetMode(int fd, mode_t mode, absl::string_view path);

absl::Status SyncFd(int fd, absl::string_view path);

// Opens the folder `name` of an open one, which must be readable; made where missing, 0750 and durable. Whose it is, if
// it was there, is not looked at. `path` is its whole path.
absl::StatusOr<FileDescriptor> MakeAndOpenFolder(int parent, const std::string& name, const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_FOLDER_CALLS_H_
