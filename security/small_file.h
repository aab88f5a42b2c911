// Reads the small files that security hangs on: keys, certificates, tokens.
#ifndef WEIGHTSTREAM_SECURITY_SMALL_FILE_H_
#define WEIGHTSTREAM_SECURITY_SMALL_FILE_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// The whole file. `flag` (without dashes) is the flag that named it, and `what` what it should be, both for the error.
// FAILED_PRECONDITION if it is missing, unreadable, no regular file (a pipe could not be read again), empty, or over
// 1 MiB. Any thread.
absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path, absl::string_view what);

// "--flag=path: what", FAILED_PRECONDITION: how every error about such a file starts.
absl::Status FileError(absl::string_view flag, const std::string& path, absl::string_view what);

// What others than the file's user and group may do with it: S_IROTH, S_IWOTH, both or neither. Neither where it cannot
// be asked.
mode_t RightsOfOthers(const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SECURITY_SMALL_FILE_H_
