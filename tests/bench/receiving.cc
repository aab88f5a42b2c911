#include "tests/bench/receiving.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>

#include "absl/flags/flag.h"

ABSL_FLAG(uint64_t, place_mib, 1024, "MiB of the receiver's destination.");
ABSL_FLAG(std::string, listen, "127.0.0.1:0", "HOST:PORT to listen on.");

namespace weightstream::bench {

absl::StatusOr<absl::Span<char>> MapPlace() {
  const uint64_t bytes = absl::GetFlag(FLAGS_place_mib) << 20;
  void* const place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (place == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap of the destination; use a smaller --place_mib");
  return absl::MakeSpan(static_cast<char*>(place), bytes);
}

void ServeAt(const std::string& address) {
  std::printf("listening on %s\n", address.c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}

}  // namespace weightstream::bench
