#include "kernels/file_space.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/file_error.h"

namespace weightstream {
namespace {

constexpr uint64_t kRewriteBlockBytes = 1 << 20;

// For a file that ends too early; no errno value says it, and EOVERFLOW is none of pread's on 64-bit systems.
constexpr int kFileTooShort = EOVERFLOW;

// pread(2) and pwrite(2) of all of `size` bytes. 0 or an errno value.
int ReadFully(int fd, char* destination, uint64_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t got = pread(fd, destination, size, static_cast<off_t>(offset));
    if (got == 0) return kFileTooShort;
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    destination += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<uint64_t>(got);
  }
  return 0;
}

int WriteFully(int fd, const char* source, uint64_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t put = pwrite(fd, source, size, static_cast<off_t>(offset));
    if (put < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    source += put;
    offset += static_cast<uint64_t>(put);
    size -= static_cast<uint64_t>(put);
  }
  return 0;
}

// Writing a hole's zeros allocates it, and writing data back changes nothing. Slower than fallocate by a full write of
// the extent; for file systems such as NFS before 4.2.
int AllocateByRewriting(int fd, ByteRange range) {
  std::vector<char> block(std::min(kRewriteBlockBytes, range.size()));
  for (uint64_t offset = range.begin; offset < range.end; offset += block.size()) {
    const uint64_t size = std::min<uint64_t>(block.size(), range.end - offset);
    if (int error = ReadFully(fd, block.data(), size, offset); error != 0) return error;
    if (int error = WriteFully(fd, block.data(), size, offset); error != 0) return error;
  }
  return 0;
}

}  // namespace

int SystemFallocate(int fd, uint64_t offset, uint64_t bytes) {
  return fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}

absl::Status AllocateFileRange(const FallocateFunction& fallocate, int fd, ByteRange range, const std::string& path) {
  if (range.empty()) return absl::OkStatus();
  int error = EINTR;
  while (error == EINTR) error = fallocate(fd, range.begin, range.size());
  if (error == EOPNOTSUPP || error == ENOSYS) error = AllocateByRewriting(fd, range);
  if (error == 0) return absl::OkStatus();
  if (IsOutOfRoom(error)) return OutOfRoomError(error, fd, range.size(), path);
  return FileError(error, "allocate room in", path);
}

absl::Status ReadFileRange(int fd, ByteRange range, char* destination, const std::string& path) {
  const int error = ReadFully(fd, destination, range.size(), range.begin);
  if (error == 0) return absl::OkStatus();
  if (error == kFileTooShort) {
    return absl::DataLossError(absl::StrCat(path, " ends before byte ", range.end,
                                            "; it was truncated by somebody else, push the version again"));
  }
  return FileError(error, "read", path);
}

}  // namespace weightstream
