#include "tests/bench/round_report.h"

#include <sys/resource.h>

#include <cstdio>

#include "absl/time/clock.h"

namespace weightstream::bench {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

}  // namespace

RoundReport::RoundReport() {
  std::puts("sending");
  std::fflush(stdout);
  cpu_start_ = CpuSeconds();
  start_ = absl::Now();
}

void RoundReport::Print(uint64_t bytes) const {
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
  std::printf("{\"bytes\":%llu,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", static_cast<unsigned long long>(bytes),
              seconds, CpuSeconds() - cpu_start_);
  std::fflush(stdout);
}

}  // namespace weightstream::bench
