#include "tensor/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

absl::Status CannotRead(const std::string& path, absl::string_view action) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", action, " ", path));
}

MappedFile::Identity IdentityOf(const struct stat& file) {
  return {.device = file.st_dev,
          .inode = file.st_ino,
          .bytes = static_cast<uint64_t>(file.st_size),
          .modified_ns = static_cast<int64_t>(file.st_mtim.tv_sec) * 1'000'000'000 + file.st_mtim.tv_nsec};
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer, perhaps for ever.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return CannotRead(path, "open");
  return Map(file, path);
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Map(const FileDescriptor& descriptor, const std::string& path) {
  struct stat file;
  if (fstat(descriptor.get(), &file) != 0) return CannotRead(path, "stat");
  if (!S_ISREG(file.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is ", S_ISDIR(file.st_mode) ? "a folder" : "not a regular file", "; name a file that holds tensors"));
  }
  const Identity identity = IdentityOf(file);
  if (identity.bytes == 0) return std::unique_ptr<MappedFile>(new MappedFile(path, "", identity));
  void* const address = mmap(nullptr, identity.bytes, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (address == MAP_FAILED) return CannotRead(path, "map");
  return std::unique_ptr<MappedFile>(
      new MappedFile(path, absl::string_view(static_cast<const char*>(address), identity.bytes), identity));
}

absl::Status MappedFile::CheckUnchanged() const {
  struct stat file;
  if (stat(path_.c_str(), &file) != 0) {
    // Gone is a change as any other, not NOT_FOUND.
    return absl::FailedPreconditionError(
        absl::StrCat(CannotRead(path_, "stat").message(), ", though it was there when opened"));
  }
  const Identity now = IdentityOf(file);
  if (now == identity_) return absl::OkStatus();
  const bool replaced = now.device != identity_.device || now.inode != identity_.inode;
  return absl::FailedPreconditionError(
      absl::StrCat(path_, replaced ? " was replaced" : " was written", " after it was opened"));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace weightstream
