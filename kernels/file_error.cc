#include "kernels/file_error.h"

#include <errno.h>
#include <sys/statvfs.h>

#include <system_error>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

absl::StatusCode CodeOf(int error_number) {
  switch (error_number) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return absl::StatusCode::kResourceExhausted;
    case EISDIR:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENODEV:
    case ENXIO:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

// strerror(3) is not thread-safe, and strerror_r(3) has two signatures.
std::string ErrorText(int error_number) { return std::generic_category().message(error_number); }

std::string FreeRoom(int fd) {
  struct statvfs file_system;
  if (fstatvfs(fd, &file_system) != 0) return "";
  return absl::StrCat(" (", uint64_t{file_system.f_bavail} * file_system.f_frsize, " bytes free there)");
}

}  // namespace

absl::Status FileError(int error_number, absl::string_view action, const std::string& path) {
  return absl::Status(CodeOf(error_number), absl::StrCat("cannot ", action, " ", path, ": ", ErrorText(error_number)));
}

bool IsOutOfRoom(int error_number) { return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG; }

absl::Status OutOfRoomError(int error_number, int fd, uint64_t bytes, const std::string& path) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", bytes, " bytes at ", path, ": ", ErrorText(error_number), FreeRoom(fd),
                   "; free space or raise the limit of that file system, then push again"));
}

}  // namespace weightstream
