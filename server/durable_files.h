// The few file operations from which the model store builds its atomic steps. Errors carry the path and errno's text; a
// full medium is RESOURCE_EXHAUSTED.
#ifndef WEIGHTSTREAM_SERVER_DURABLE_FILES_H_
#define WEIGHTSTREAM_SERVER_DURABLE_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Makes a folder, and its parents, where missing; 0750. Durable: else what is put into it could vanish with it.
absl::Status MakeFolder(const std::string& path);

// Creates a file that must not exist, 0640, with these first bytes.
absl::Status CreateFile(const std::string& path, absl::string_view bytes);

// Writes these bytes over the first ones of a file that must exist; what follows stays. Follows no link.
absl::Status OverwriteFile(const std::string& path, absl::string_view bytes);

// Sets a file's time of modification to now.
absl::Status SetModifiedNow(const std::string& path);

absl::Status Rename(const std::string& from, const std::string& to);

// Creates the symbolic link, replacing one that is there, not atomically.
absl::Status MakeLink(const std::string& target, const std::string& path);
// NOT_FOUND if there is none.
absl::StatusOr<std::string> ReadLink(const std::string& path);

// Removes a file, link or folder with all that is in it; nothing there is fine. Follows no link.
absl::Status RemoveAll(const std::string& path);

// Names in a folder, without . and .., sorted.
absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path);

bool IsFolder(const std::string& path);

// Bytes that can still be written to the file system that holds `path`: for shared memory not more than the process may
// fill.
absl::StatusOr<uint64_t> FreeBytes(const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_DURABLE_FILES_H_
