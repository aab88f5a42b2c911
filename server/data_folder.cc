#include "server/data_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/folder_calls.h"
#include "server/free_memory.h"
#include "server/trusted_folder.h"
#include "tensor/atomic_file.h"

namespace weightstream {
namespace {

constexpr mode_t kFileMode = 0640;

absl::StatusOr<std::vector<std::string>> NamesIn(int folder, const std::string& path) {
  // A description of its own: the position is shared otherwise.
  const int fd = ::openat(folder, ".", kFolderFlags);
  DIR* const entries = fd < 0 ? nullptr : ::fdopendir(fd);
  if (entries == nullptr) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    return ErrnoStatus(error, "cannot list", path);
  }
  const absl::Cleanup close = [entries] { ::closedir(entries); };
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(entries)) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return ErrnoStatus(errno, "cannot list", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status RemoveIn(int parent, const std::string& name, const std::string& path) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR) return ErrnoStatus(errno, "cannot remove", path);
  const FileDescriptor folder(::openat(parent, name.c_str(), kFolderFlags));
  if (!folder.valid()) return OpenError(errno, parent, name, "cannot remove", path);
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(folder.get(), path);
  if (!names.ok()) return names.status();
  for (const std::string& inner : *names) {
    if (absl::Status removed = RemoveIn(folder.get(), inner, absl::StrCat(path, "/", inner)); !removed.ok())
      return removed;
  }
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot remove", path);
}

}  // namespace

absl::StatusOr<DataFolder> DataFolder::Open(const std::string& path) {
  absl::StatusOr<TrustedFolder> folder = MakeAndOpenTrusted(path);
  if (!folder.ok()) return folder.status();
  return DataFolder(std::move(folder->path), std::move(folder->fd));
}

std::string DataFolder::PathOf(absl::string_view name) const {
  return name.empty() ? path_ : absl::StrCat(path_, "/", name);
}

// ---- Finding --------------------------------------------------------------------------------------------------------

absl::StatusOr<FileDescriptor> DataFolder::OpenFolder(absl::string_view name) const {
  FileDescriptor at(::openat(fd_.get(), ".", kFolderFlags));
  if (!at.valid()) return ErrnoStatus(errno, "cannot open folder", path_);
  std::string path = path_;
  for (const absl::string_view part : absl::StrSplit(name, '/', absl::SkipEmpty())) {
    absl::StrAppend(&path, "/", part);
    if (part == "..") return absl::InternalError(absl::StrCat(path, " leads upwards; this is a defect of the program"));
    const std::string component(part);
    FileDescriptor next(::openat(at.get(), component.c_str(), kFolderFlags));
    if (!next.valid()) return OpenError(errno, at.get(), component, "cannot open folder", path);
    at = std::move(next);
  }
  return at;
}

absl::StatusOr<DataFolder::Place> DataFolder::Find(absl::string_view name) const {
  const size_t slash = name.rfind('/');
  const bool below = slash != absl::string_view::npos;
  absl::StatusOr<FileDescriptor> folder = OpenFolder(below ? name.substr(0, slash) : "");
  if (!folder.ok()) return folder.status();
  return Place{*std::move(folder), std::string(below ? name.substr(slash + 1) : name)};
}

absl::StatusOr<FileDescriptor> DataFolder::Open(absl::string_view name, int flags, absl::string_view action) const {
  absl::StatusOr<Place> place = Find(name);
  if (!place.ok()) return place.status();
  FileDescriptor file(
      ::openat(place->folder.get(), place->leaf.c_str(), flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, kFileMode));
  if (!file.valid()) return OpenError(errno, place->folder.get(), place->leaf, action, PathOf(name));
  return file;
}

absl::StatusOr<DataFolder::Kind> DataFolder::KindOf(absl::string_view name) const {
  absl::StatusOr<Place> place = Find(name);
  if (absl::IsNotFound(place.status())) return Kind::kNothing;
  if (!place.ok()) return place.status();
  struct stat info {};
  if (::fstatat(place->folder.get(), place->leaf.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return Kind::kNothing;
    return ErrnoStatus(errno, "cannot examine", PathOf(name));
  }
  if (S_ISDIR(info.st_mode)) return Kind::kFolder;
  return S_ISLNK(info.st_mode) ? Kind::kLink : Kind::kOther;
}

absl::StatusOr<std::vector<std::string>> DataFolder::ListFolder(absl::string_view name) const {
  absl::StatusOr<FileDescriptor> folder = OpenFolder(name);
  if (!folder.ok()) return folder.status();
  return NamesIn(folder->get(), PathOf(name));
}

absl::StatusOr<std::string> DataFolder::ReadLink(absl::string_view name) const {
  absl::StatusOr<Place> place = Find(name);
  if (!place.ok()) return place.status();
  char target[4096];
  const ssize_t length = ::readlinkat(place->folder.get(), place->leaf.c_str(), target, sizeof(target));
  if (length < 0) return ErrnoStatus(errno, "cannot read link", PathOf(name));
  return std::string(target, static_cast<size_t>(length));
}

absl::StatusOr<uint64_t> DataFolder::FreeBytes() const {
  struct statvfs info {};
  if (::fstatvfs(fd_.get(), &info) != 0) return ErrnoStatus(errno, "cannot ask for free space at", path_);
  const uint64_t free = static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  struct statfs kind {};
  const bool memory = ::fstatfs(fd_.get(), &kind) == 0 && kind.f_type == TMPFS_MAGIC;
  return memory ? std::min(free, FreeMemoryBytes()) : free;
}

// ---- Files ----------------------------------------------------------------------------------------------------------

absl::StatusOr<FileDescriptor> DataFolder::OpenFile(absl::string_view name) const {
  return Open(name, O_RDONLY, "cannot open");
}

absl::StatusOr<FileDescriptor> DataFolder::CreateFile(absl::string_view name, absl::string_view bytes) const {
  absl::StatusOr<FileDescriptor> file = Open(name, O_RDWR | O_CREAT | O_EXCL, "cannot create");
  if (!file.ok()) return file.status();
  if (absl::Status set = SetMode(file->get(), kFileMode, PathOf(name)); !set.ok()) return set;
  if (absl::Status written = WriteFully(file->get(), PathOf(name), 0, bytes); !written.ok()) return written;
  return file;
}

absl::StatusOr<FileDescriptor> DataFolder::CreateOrOpenFile(absl::string_view name) const {
  absl::StatusOr<FileDescriptor> file = CreateFile(name, "");
  if (!absl::IsAlreadyExists(file.status())) return file;
  return Open(name, O_RDWR, "cannot open");
}

absl::Status DataFolder::OverwriteFile(absl::string_view name, absl::string_view bytes) const {
  absl::StatusOr<FileDescriptor> file = Open(name, O_WRONLY, "cannot open");
  if (!file.ok()) return file.status();
  return WriteFully(file->get(), PathOf(name), 0, bytes);
}

absl::Status DataFolder::SetModifiedNow(absl::string_view name) const {
  absl::StatusOr<Place> place = Find(name);
  if (!place.ok()) return place.status();
  if (::utimensat(place->folder.get(), place->leaf.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, "cannot touch", PathOf(name));
  return absl::OkStatus();
}

// ---- Entries --------------------------------------------------------------------------------------------------------

absl::Status DataFolder::MakeFolder(absl::string_view name) const {
  absl::StatusOr<FileDescriptor> at = OpenFolder("");
  std::string path = path_;
  for (const absl::string_view part : absl::StrSplit(name, '/', absl::SkipEmpty())) {
    if (!at.ok()) break;
    absl::StrAppend(&path, "/", part);
    at = MakeAndOpenFolder(at->get(), std::string(part), path);
  }
  return at.status();
}

absl::Status DataFolder::Rename(absl::string_view from, absl::string_view to) const {
  absl::StatusOr<Place> source = Find(from);
  if (!source.ok()) return source.status();
  absl::StatusOr<Place> target = Find(to);
  if (!target.ok()) return target.status();
  if (::renameat(source->folder.get(), source->leaf.c_str(), target->folder.get(), target->leaf.c_str()) == 0)
    return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("cannot rename ", PathOf(from), " to"), PathOf(to));
}

absl::Status DataFolder::SyncFolder(absl::string_view name) const {
  absl::StatusOr<FileDescriptor> folder = OpenFolder(name);
  if (!folder.ok()) return folder.status();
  return SyncFd(folder->get(), PathOf(name));
}

absl::Status DataFolder::MakeLink(absl::string_view target, absl::string_view name) const {
  absl::StatusOr<Place> place = Find(name);
  if (!place.ok()) return place.status();
  const std::string path = PathOf(name);
  const int folder = place->folder.get();
  if (::unlinkat(folder, place->leaf.c_str(), 0) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, "cannot remove", path);
  if (::symlinkat(std::string(target).c_str(), folder, place->leaf.c_str()) != 0)
    return ErrnoStatus(errno, "cannot create link", path);
  return absl::OkStatus();
}

absl::Status DataFolder::RemoveAll(absl::string_view name) const {
  absl::StatusOr<Place> place = Find(name);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  return RemoveIn(place->folder.get(), place->leaf, PathOf(name));
}

}  // namespace weightstream
