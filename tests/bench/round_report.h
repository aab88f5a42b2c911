// What one round of one contender cost its sender, as the lines that the driver (bench.py) reads.
#ifndef WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_
#define WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_

#include <cstdint>

#include "absl/time/time.h"

namespace weightstream::bench {

// Measures from construction to Print: wall time, and the processor time of this process.
class RoundReport {
 public:
  // Prints "sending" on stdout, from where on the driver looks at the receiver: the source is ready by then.
  RoundReport();
  // {"bytes":..., "seconds":..., "cpu_seconds":...} on stdout; `bytes` are the payload that one receiver got.
  void Print(uint64_t bytes) const;

 private:
  absl::Time start_;
  double cpu_start_;
};

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_
