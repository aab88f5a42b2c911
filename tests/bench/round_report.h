// What one round of one contender cost, as the line of JSON that the driver (bench.py) reads.
#ifndef WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_
#define WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_

#include <cstdint>

#include "absl/time/time.h"

namespace weightstream::bench {

// Measures from construction to Print: wall time, and the processor time of this process.
class RoundReport {
 public:
  RoundReport();
  // {"bytes":..., "seconds":..., "cpu_seconds":..., "peak_rss_bytes":...} on stdout.
  void Print(uint64_t bytes) const;

 private:
  const absl::Time start_;
  const double cpu_start_;
};

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_ROUND_REPORT_H_
