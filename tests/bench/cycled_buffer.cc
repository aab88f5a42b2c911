#include "tests/bench/cycled_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"

namespace weightstream::bench {
namespace {

constexpr uint64_t kSeed = 20221;

void FillRandom(char* data, uint64_t bytes) {
  std::mt19937_64 random(kSeed);
  for (uint64_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(data + at, &word, sizeof(word));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<CycledBuffer>> CycledBuffer::Create(uint64_t bytes, uint64_t period) {
  period = std::min(period, bytes);
  if (bytes == 0 || period % sizeof(uint64_t) != 0)
    return absl::InvalidArgumentError("the buffer's size is not a multiple of 8");
  const int fd = ::memfd_create("weightstream-bench", MFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  const absl::Cleanup close = [fd] { ::close(fd); };
  if (::ftruncate(fd, static_cast<off_t>(period)) != 0) return absl::ErrnoToStatus(errno, "ftruncate");
  void* const place = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap");
  std::unique_ptr<CycledBuffer> buffer(new CycledBuffer(static_cast<char*>(place), bytes));
  for (uint64_t at = 0; at < bytes; at += period) {
    const uint64_t part = std::min(period, bytes - at);
    if (::mmap(buffer->data_ + at, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
      return absl::ErrnoToStatus(errno, "mmap of a period");
    }
  }
  FillRandom(buffer->data_, period);
  // Map every page now: no contender is to pay for the first look at them.
  for (uint64_t at = 0; at < bytes; at += 4096) static_cast<void>(*static_cast<volatile char*>(buffer->data_ + at));
  return buffer;
}

CycledBuffer::~CycledBuffer() { ::munmap(data_, bytes_); }

}  // namespace weightstream::bench
