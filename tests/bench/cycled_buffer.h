// A long run of bytes that takes little memory: what every contender sends.
#ifndef WEIGHTSTREAM_TESTS_BENCH_CYCLED_BUFFER_H_
#define WEIGHTSTREAM_TESTS_BENCH_CYCLED_BUFFER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream::bench {

// `bytes` contiguous bytes, of which the first `period` are random (seeded) and repeat: the same pages mapped one
// behind the other. A period larger than the processor's caches is read from memory like a model would be. Both are
// multiples of 2 MiB.
class CycledBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<CycledBuffer>> Create(uint64_t bytes, uint64_t period);
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
