#include "kernels/pageable_memory.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace weightstream {
namespace {

// A whole page even for no bytes, so that data() is never null.
constexpr uint64_t kLeastBytes = 4096;
constexpr uint64_t kMostBytes = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

class PageableMemory : public PinnedMemory {
 public:
  // Takes over `mapped_bytes` bytes of mmap'ed memory.
  PageableMemory(char* data, uint64_t bytes, uint64_t mapped_bytes)
      : data_(data), bytes_(bytes), mapped_bytes_(mapped_bytes) {}
  ~PageableMemory() override { munmap(data_, mapped_bytes_); }

  char* data() override { return data_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  char* const data_;
  const uint64_t bytes_;
  const uint64_t mapped_bytes_;
};

absl::Status NoMemoryError(uint64_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no ", bytes, " bytes of memory for staging; use less of it, or a machine with more"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePageableMemory(uint64_t bytes) {
  if (bytes > kMostBytes) return NoMemoryError(bytes);
  const uint64_t mapped_bytes = std::max(bytes, kLeastBytes);
  void* data = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return NoMemoryError(bytes);
  std::unique_ptr<PinnedMemory> memory =
      std::make_unique<PageableMemory>(static_cast<char*>(data), bytes, mapped_bytes);
  // Advice: a kernel without huge pages loses nothing but speed.
  madvise(data, mapped_bytes, MADV_HUGEPAGE);
  if (madvise(data, mapped_bytes, MADV_POPULATE_WRITE) != 0 && errno == ENOMEM) return NoMemoryError(bytes);
  return memory;
}

}  // namespace weightstream
