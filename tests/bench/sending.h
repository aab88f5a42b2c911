// What the senders of every contender share: the flags that say what to send, and the split over connections.
#ifndef WEIGHTSTREAM_TESTS_BENCH_SENDING_H_
#define WEIGHTSTREAM_TESTS_BENCH_SENDING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/bench/cycled_buffer.h"

ABSL_DECLARE_FLAG(uint64_t, total_mib);
ABSL_DECLARE_FLAG(int, connections);

namespace weightstream::bench {

// `bytes` bytes to send, by --period_mib and --source_file.
absl::StatusOr<std::unique_ptr<CycledBuffer>> SourceFromFlags(uint64_t bytes);

// One connection's part of the whole.
struct Share {
  // Where it starts, in bytes into the whole.
  uint64_t begin = 0;
  absl::string_view bytes;
};

// Contiguous shares of equal size, but for the last, which has the remainder. `connections` is at least 1.
std::vector<Share> SplitOverConnections(absl::string_view bytes, int connections);

// Calls `send` for every share at once, each on a thread of its own; returns the first share's error, if any.
absl::Status SendShares(const std::vector<Share>& shares, const std::function<absl::Status(const Share&)>& send);

// A sender's round from flags to report: makes --total_mib of source, sends it in --connections shares, prints what it
// cost. Returns the exit code; an error is told on stderr.
int RunSender(const char* program, const std::function<absl::Status(const Share&)>& send);

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_SENDING_H_
