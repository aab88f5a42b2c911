// A part of a file, mapped shared and writable, and what makes its first touch cheap.
#ifndef WEIGHTSTREAM_KERNELS_FILE_MAPPING_H_
#define WEIGHTSTREAM_KERNELS_FILE_MAPPING_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensor/byte_range.h"

namespace weightstream {

// Maps bytes of an open file. Unmapped on destruction; the descriptor stays the caller's and must outlive this object.
// Thread-safe. All ranges are in bytes of the file, within the range that was mapped.
//
// First touch: fresh shared-memory pages are zeroed and mapped one by one. Both calls below do it in bulk, on tmpfs
// only. Copying into 1 GiB of a new file in /dev/shm, a virtual machine with two quiet cores, Linux 6.18, files made
// one right after the other, median of 7 runs in GB/s with one thread and with two:
//
//   stores into the bare mapping                    1.2   2.6
//   fallocate, then stores                          1.7   2.9
//   fallocate, MADV_POPULATE_WRITE, then stores     1.9   3.2
//
// Huge pages are another matter, and off unless asked for. Seconds for 1 GiB, one thread, same machine under load,
// median of 5 in random order [least..most]:
//
//                      right after an equal run    6 s after an equal run
//   small pages        1.31 [1.19..2.19]           1.79 [1.02..1.99]
//   huge pages         0.39 [0.20..0.72]           4.88 [4.67..7.67]
//
// Anonymous huge pages, populated without any file, show the same jump (0.21 to 6.04), so it is not MADV_COLLAPSE. No
// compaction was counted. It fits the hypervisor taking back free 2 MiB blocks (free page reporting, order 9), which
// must then be had anew; that was not proven by turning it off. With 4 GiB after a pause both were slow (small 0.24 to
// 0.54 GB/s, huge 0.19 to 0.39, 4 runs each). Not measured on a machine without a hypervisor.
class FileMapping {
 public:
  // `path` is for messages. Requires a non-empty range within the file. RESOURCE_EXHAUSTED if there is no address
  // space.
  static absl::StatusOr<std::unique_ptr<FileMapping>> Create(int fd, ByteRange range, bool huge_pages,
                                                             const std::string& path);

  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  // The memory of the file's byte `offset`.
  char* At(uint64_t offset) { return base_ + (offset - base_in_file_); }

  bool on_tmpfs() const { return on_tmpfs_; }

  // Backs `range` with huge pages as far as the kernel gives any. To be called before the range is allocated in other
  // ways: an allocated page would have to be copied. Best effort, thus without a result.
  void BackWithHugePages(ByteRange range);

  // Makes every page of `range` present and writable. To be called once the range is allocated. RESOURCE_EXHAUSTED if
  // the memory is not there (a control group's limit): a store would have killed the process.
  absl::Status Populate(ByteRange range);

 private:
  FileMapping(int fd, ByteRange range, bool on_tmpfs, bool huge_pages, const std::string& path);

  const int fd_;
  const ByteRange range_;
  const std::string path_;
  const bool on_tmpfs_;
  // Cleared once the kernel refuses for good.
  std::atomic<bool> huge_pages_;

  // All of the address space that was taken, and its length.
  char* reservation_ = nullptr;
  uint64_t reservation_bytes_ = 0;
  // Where the file's byte base_in_file_ is mapped: equal to it modulo the size of a huge page.
  char* base_ = nullptr;
  uint64_t base_in_file_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_FILE_MAPPING_H_
