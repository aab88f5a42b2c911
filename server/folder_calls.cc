#include "server/folder_calls.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

constexpr mode_t kFolderMode = 0750;

// What to do about it; empty where only the message says anything. `access` is what to do where there is none. Literals
// are handed on as they are: a test looks for their words in the binary, where the compiler takes strings apart.
absl::string_view Remedy(int error, absl::string_view access) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free space there or keep fewer versions";
    case EACCES:
    case EPERM:
      return access;
    case EROFS:
      return "it is mounted to be read only: mount it to be written to, or choose another --data-dir";
    case EMFILE:
      return "raise the limit of files that the server may have open (ulimit -n, LimitNOFILE= of a unit)";
    case ENFILE:
      return "raise the limit of files that this machine may have open (sysctl fs.file-max)";
    case EIO:
      return "the medium fails: look into the kernel's log, and choose a --data-dir on another";
    case ENAMETOOLONG:
      return "choose a --data-dir with a shorter path";
    case ENOENT:
      return "it is not there, or not any more: make it, and leave what is below the data directory to the server";
    default:
      return "";
  }
}

}  // namespace

absl::Status ErrnoStatus(int error, absl::string_view what, absl::string_view path) {
  const std::string access =
      absl::StrCat("let uid ", ::geteuid(),
                   ", as which the server runs, read and write there (chown, chmod), or choose another --data-dir");
  const absl::string_view remedy = Remedy(error, access);
  const std::string message =
      absl::StrCat(what, " ", path, ": ", std::system_category().message(error), remedy.empty() ? "" : "; ", remedy);
  // Whatever Abseil takes it for.
  if (error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::Status(absl::ErrnoToStatusCode(error), message);
}

absl::Status OpenError(int error, int folder, const std::string& name, absl::string_view what, absl::string_view path) {
  // The kernel says ELOOP or ENOTDIR of a link that is not followed, and ENOTDIR of other things too.
  struct stat info {};
  if ((error == ELOOP || error == ENOTDIR) && ::fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISLNK(info.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is a symbolic link, and none is followed below the data directory; remove it"));
    }
    if (!S_ISDIR(info.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " exists and is not a folder"));
    }
  }
  return ErrnoStatus(error, what, path);
}

absl::Status SetMode(int fd, mode_t mode, absl::string_view path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "cannot examine", path);
  const mode_t wanted = mode | (info.st_mode & S_ISGID);
  if ((info.st_mode & 07777) == wanted || ::fchmod(fd, wanted) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot set the mode of", path);
}

absl::Status SyncFd(int fd, absl::string_view path) {
  // Some file systems cannot sync a folder and say EINVAL: they have no more to give.
  if (::fsync(fd) != 0 && errno != EINVAL) return ErrnoStatus(errno, "cannot sync folder", path);
  return absl::OkStatus();
}

absl::StatusOr<FileDescriptor> MakeAndOpenFolder(int parent, const std::string& name, const std::string& path) {
  const bool made = ::mkdirat(parent, name.c_str(), kFolderMode) == 0;
  if (!made && errno != EEXIST) return ErrnoStatus(errno, "cannot make folder", path);
  FileDescriptor folder(::openat(parent, name.c_str(), kFolderFlags));
  if (!folder.valid()) return OpenError(errno, parent, name, "cannot open folder", path);
  if (!made) return folder;
  if (absl::Status set = SetMode(folder.get(), kFolderMode, path); !set.ok()) return set;
  if (absl::Status synced = SyncFd(parent, path); !synced.ok()) return synced;
  return folder;
}

}  // namespace weightstream
