// What the receivers of the baselines share: the preallocated destination, and how the driver starts and ends them.
#ifndef WEIGHTSTREAM_TESTS_BENCH_RECEIVING_H_
#define WEIGHTSTREAM_TESTS_BENCH_RECEIVING_H_

#include <string>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

// HOST:PORT to listen on, a numeric IPv4 address; port 0 takes a free one.
ABSL_DECLARE_FLAG(std::string, listen);

namespace weightstream::bench {

// --place_mib of memory, every page touched; it lives as long as the process. Shared memory, as a server's arena is:
// so it counts as that, and not among a receiver's own.
absl::StatusOr<absl::Span<char>> MapPlace();

// Prints the line that the driver waits for, and blocks until the driver closes our stdin.
void ServeAt(const std::string& address);

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_RECEIVING_H_
