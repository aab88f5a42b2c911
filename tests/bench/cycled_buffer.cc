#include "tests/bench/cycled_buffer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weightstream::bench {
namespace {

constexpr uint64_t kSeed = 20221;
constexpr uint64_t kPage = 4096;

void FillRandom(char* data, uint64_t bytes) {
  std::mt19937_64 random(kSeed);
  for (uint64_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(data + at, &word, sizeof(word));
  }
}

absl::StatusOr<int> Open(const std::string& path) {
  const int fd = path.empty() ? ::memfd_create("weightstream-bench", MFD_CLOEXEC)
                              : ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the source's memory ", path));
  return fd;
}

absl::Status Map(char* place, uint64_t bytes, int fd) {
  // Populated now: no contender is to pay for the first look at the pages.
  if (::mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, "mmap of the source; is shared memory full?");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CycledBuffer>> CycledBuffer::Create(uint64_t bytes, uint64_t period,
                                                                   const std::string& path) {
  period = std::min(period, bytes);
  if (period == 0 || period % kPage != 0 || bytes % kPage != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a source of ", bytes, " bytes that repeats after ", period, ": give multiples of ", kPage));
  }
  const absl::StatusOr<int> fd = Open(path);
  if (!fd.ok()) return fd.status();
  const absl::Cleanup close = [fd = *fd] { ::close(fd); };
  struct stat status {};
  if (::fstat(*fd, &status) != 0) return absl::ErrnoToStatus(errno, "fstat of the source");
  const bool fill = static_cast<uint64_t>(status.st_size) < period;
  if (fill && ::ftruncate(*fd, static_cast<off_t>(period)) != 0) {
    return absl::ErrnoToStatus(errno, "ftruncate of the source");
  }
  void* const place = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap of the source's addresses");
  std::unique_ptr<CycledBuffer> buffer(new CycledBuffer(static_cast<char*>(place), bytes));
  for (uint64_t at = 0; at < bytes; at += period) {
    const absl::Status mapped = Map(buffer->data_ + at, std::min(period, bytes - at), *fd);
    if (!mapped.ok()) return mapped;
  }
  if (fill) FillRandom(buffer->data_, period);
  return buffer;
}

CycledBuffer::~CycledBuffer() { ::munmap(data_, bytes_); }

}  // namespace weightstream::bench
