// Errors of system calls on a target's file, as absl::Status. Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_FILE_ERROR_H_
#define WEIGHTSTREAM_KERNELS_FILE_ERROR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// "cannot `action` `path`: <errno's text>", with the code that fits `error_number`: NOT_FOUND for a missing file,
// PERMISSION_DENIED, RESOURCE_EXHAUSTED for a lack of room, memory or descriptors, INVALID_ARGUMENT for a path of the
// wrong kind, INTERNAL for the rest.
absl::Status FileError(int error_number, absl::string_view action, const std::string& path);

// True for the errors that say that a medium, a quota or a file size limit has no room: ENOSPC, EDQUOT, EFBIG.
bool IsOutOfRoom(int error_number);

// RESOURCE_EXHAUSTED: "no room for N bytes at PATH: ...", with what is free on the file system of `fd`, and the remedy.
absl::Status OutOfRoomError(int error_number, int fd, uint64_t bytes, const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_FILE_ERROR_H_
