// A long run of bytes that takes little memory: what every contender sends.
#ifndef WEIGHTSTREAM_TESTS_BENCH_CYCLED_BUFFER_H_
#define WEIGHTSTREAM_TESTS_BENCH_CYCLED_BUFFER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream::bench {

// `bytes` contiguous bytes, of which the first `period` are random (seeded) and repeat: the same pages mapped one
// behind the other. A period larger than the processor's caches is read from memory like a model would be. The pages
// are shared memory, and are not the process's own.
class CycledBuffer {
 public:
  // Both sizes are multiples of 4096; a period larger than `bytes` is cut to it. The random bytes are those of `path`,
  // a file on tmpfs of at least the period, which is made or made longer where it is not there yet; with an empty path
  // they are this process's alone. Two processes must not make one file at a time.
  static absl::StatusOr<std::unique_ptr<CycledBuffer>> Create(uint64_t bytes, uint64_t period,
                                                              const std::string& path = "");
  ~CycledBuffer();
  CycledBuffer(const CycledBuffer&) = delete;
  CycledBuffer& operator=(const CycledBuffer&) = delete;

  absl::string_view bytes() const { return {data_, bytes_}; }

 private:
  CycledBuffer(char* data, uint64_t bytes) : data_(data), bytes_(bytes) {}

  char* const data_;
  const uint64_t bytes_;
};

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_CYCLED_BUFFER_H_
