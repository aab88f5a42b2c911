#include "kernels/file_mapping.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "absl/strings/str_cat.h"
#include "kernels/file_error.h"
#include "kernels/file_space.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace weightstream {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 << 20;

uint64_t RoundDown(uint64_t value, uint64_t unit) { return value - value % unit; }
uint64_t RoundUp(uint64_t value, uint64_t unit) { return RoundDown(value + unit - 1, unit); }

bool IsOnTmpfs(int fd) {
  struct statfs file_system;
  return fstatfs(fd, &file_system) == 0 && file_system.f_type == TMPFS_MAGIC;
}

}  // namespace

FileMapping::FileMapping(int fd, ByteRange range, bool on_tmpfs, bool huge_pages, const std::string& path)
    : fd_(fd), range_(range), path_(path), on_tmpfs_(on_tmpfs), huge_pages_(on_tmpfs && huge_pages) {}

FileMapping::~FileMapping() {
  if (reservation_ != nullptr) munmap(reservation_, reservation_bytes_);
}

absl::StatusOr<std::unique_ptr<FileMapping>> FileMapping::Create(int fd, ByteRange range, bool huge_pages,
                                                                 const std::string& path) {
  std::unique_ptr<FileMapping> mapping(new FileMapping(fd, range, IsOnTmpfs(fd), huge_pages, path));
  // A huge page is mapped as one only where address and place in the file agree modulo its size, which mmap does not
  // promise. So address space is reserved with slack, and the file mapped over it at the address that fits.
  mapping->base_in_file_ = RoundDown(range.begin, kHugePageBytes);
  const uint64_t bytes = RoundUp(range.end - mapping->base_in_file_, kPageBytes);
  const uint64_t reserved = bytes + kHugePageBytes;
  void* reservation = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation == MAP_FAILED) return FileError(errno, absl::StrCat("reserve ", reserved, " bytes for"), path);
  mapping->reservation_ = static_cast<char*>(reservation);
  mapping->reservation_bytes_ = reserved;
  const auto start = reinterpret_cast<uintptr_t>(reservation);
  mapping->base_ = mapping->reservation_ + (RoundUp(start, kHugePageBytes) - start);
  void* base = mmap(mapping->base_, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                    static_cast<off_t>(mapping->base_in_file_));
  if (base == MAP_FAILED) return FileError(errno, absl::StrCat("map ", bytes, " bytes of"), path);
  return mapping;
}

void FileMapping::BackWithHugePages(ByteRange range) {
  if (!huge_pages_.load(std::memory_order_relaxed)) return;
  const uint64_t begin = RoundUp(range.begin, kHugePageBytes);
  const uint64_t end = RoundDown(range.end, kHugePageBytes);
  if (begin >= end) return;
  // MADV_COLLAPSE gives huge pages also where the mount and shmem_enabled say never (the kernel documents this), as
  // /dev/shm does by default, but passes over places that have no page at all: each gets one small page to grow from.
  // If there is no room for it, the allocation that follows says so.
  for (uint64_t block = begin; block < end; block += kHugePageBytes) {
    if (SystemFallocate(fd_, block, kPageBytes) != 0) return;
  }
  if (madvise(At(begin), end - begin, MADV_COLLAPSE) == 0) return;
  // EINVAL: this kernel has no such advice, or not for this file. ENOMEM: memory is too fragmented, and looking for
  // huge pages extent after extent would cost more than small pages do. Others (EAGAIN, EBUSY) are a matter of the
  // moment.
  if (errno == EINVAL || errno == ENOMEM) huge_pages_.store(false, std::memory_order_relaxed);
}

absl::Status FileMapping::Populate(ByteRange range) {
  // A disk's pages cost the disk's time, whoever touches them first.
  if (!on_tmpfs_) return absl::OkStatus();
  const uint64_t begin = RoundDown(range.begin, kPageBytes);
  const uint64_t end = RoundUp(range.end, kPageBytes);
  int result = 0;
  do {
    result = madvise(At(begin), end - begin, MADV_POPULATE_WRITE);
  } while (result != 0 && (errno == EINTR || errno == EAGAIN));
  // EINVAL: before Linux 5.14, or a sandboxed kernel without this advice. The stores will do it, more slowly.
  if (result == 0 || errno == EINVAL) return absl::OkStatus();
  if (errno == ENOMEM || errno == EFAULT) return OutOfRoomError(ENOMEM, fd_, range.size(), path_);
  return FileError(errno, "make memory present for", path_);
}

}  // namespace weightstream
