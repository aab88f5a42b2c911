#include "server/durable_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "server/free_memory.h"
#include "tensor/atomic_file.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kFolderMode = 0750;
constexpr mode_t kFileMode = 0640;

absl::Status ErrnoStatus(int error, absl::string_view what, absl::string_view path) {
  const std::string message = absl::StrCat(what, " ", path);
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(absl::StrCat(message, ": ", std::system_category().message(error),
                                                     "; free space there or keep fewer versions"));
  }
  return absl::ErrnoToStatus(error, message);
}

}  // namespace

absl::Status MakeFolder(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  if (::mkdir(path.c_str(), kFolderMode) == 0) return SyncFolder(parent.empty() ? "." : parent);
  if (errno == EEXIST) {
    if (IsFolder(path)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(path, " exists and is not a folder"));
  }
  if (errno != ENOENT) return ErrnoStatus(errno, "cannot make folder", path);
  if (parent.empty() || parent == path) return ErrnoStatus(ENOENT, "cannot make folder", path);
  if (absl::Status made = MakeFolder(parent); !made.ok()) return made;
  if (::mkdir(path.c_str(), kFolderMode) != 0 && errno != EEXIST) return ErrnoStatus(errno, "cannot make folder", path);
  return SyncFolder(parent);
}

absl::Status CreateFile(const std::string& path, absl::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode);
  if (fd < 0) return ErrnoStatus(errno, "cannot create", path);
  const absl::Cleanup close = [fd] { ::close(fd); };
  return WriteFully(fd, path, 0, bytes);
}

absl::Status OverwriteFile(const std::string& path, absl::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "cannot open", path);
  const absl::Cleanup close = [fd] { ::close(fd); };
  return WriteFully(fd, path, 0, bytes);
}

absl::Status SetModifiedNow(const std::string& path) {
  if (::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "cannot touch", path);
  return absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("cannot rename ", from, " to"), to);
  return absl::OkStatus();
}

absl::Status MakeLink(const std::string& target, const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, "cannot remove", path);
  if (::symlink(target.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, "cannot create link", path);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadLink(const std::string& path) {
  char target[4096];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof(target));
  if (length < 0) return ErrnoStatus(errno, "cannot read link", path);
  return std::string(target, static_cast<size_t>(length));
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return ErrnoStatus(error.value(), "cannot remove", path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) {
  std::error_code error;
  fs::directory_iterator entries(path, error);
  if (error) return ErrnoStatus(error.value(), "cannot list", path);
  std::vector<std::string> names;
  while (entries != fs::directory_iterator()) {
    names.push_back(entries->path().filename().string());
    entries.increment(error);
    if (error) return ErrnoStatus(error.value(), "cannot list", path);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool IsFolder(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

absl::StatusOr<uint64_t> FreeBytes(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot ask for free space at", path);
  const uint64_t free = static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  struct statfs kind {};
  const bool memory = ::statfs(path.c_str(), &kind) == 0 && kind.f_type == TMPFS_MAGIC;
  return memory ? std::min(free, FreeMemoryBytes()) : free;
}

}  // namespace weightstream
