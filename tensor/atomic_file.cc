#include "tensor/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

absl::Status FileError(absl::string_view action, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", action, " ", path));
}

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// Unique among the writers of this process, and of others unless a dead one with the same number left its file.
std::string TemporaryPath(const std::string& path) {
  static std::atomic<uint64_t> next_number = 0;
  const std::string name = std::filesystem::path(path).filename().string();
  return absl::StrCat(FolderOf(path), "/.", name, ".", getpid(), ".", next_number.fetch_add(1), ".tmp");
}

}  // namespace

absl::Status WriteFully(int fd, const std::string& path, uint64_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      if (written == 0) errno = EIO;  // POSIX does not rule it out; to try again could be for ever.
      return FileError(absl::StrCat("write ", bytes.size(), " bytes at ", offset, " of"), path);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open folder", folder);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  // Some file systems cannot sync a folder and say EINVAL: they have no more to give.
  if (fsync(fd) != 0 && errno != EINVAL) return FileError("sync folder", folder);
  return absl::OkStatus();
}

AtomicFile::AtomicFile(std::string path, std::string temporary_path, int fd)
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), fd_(fd) {}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(const std::string& path, uint64_t bytes) {
  std::string temporary_path;
  int fd = -1;
  do {
    temporary_path = TemporaryPath(path);
    fd = open(temporary_path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd < 0 && (errno == EEXIST || errno == EINTR));
  if (fd < 0) return FileError("create a temporary file for", path);
  std::unique_ptr<AtomicFile> file(new AtomicFile(path, std::move(temporary_path), fd));
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return FileError(absl::StrCat("grow to ", bytes, " bytes"), path);
  return file;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_path_.c_str());
}

absl::Status AtomicFile::Write(uint64_t offset, absl::string_view bytes) {
  if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat(path_, " is finished; nothing can be added to it"));
  return WriteFully(fd_, path_, offset, bytes);
}

absl::Status AtomicFile::Publish() {
  if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat(path_, " is finished already"));
  if (fsync(fd_) != 0) return FileError("sync", path_);
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) return FileError("rename the finished file to", path_);
  close(fd_);
  fd_ = -1;
  return SyncFolder(FolderOf(path_));
}

}  // namespace weightstream
