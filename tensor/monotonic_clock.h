// Time that never jumps: for measuring waits. absl::Now() follows the wall clock, which an administrator may set.
#ifndef WEIGHTSTREAM_TENSOR_MONOTONIC_CLOCK_H_
#define WEIGHTSTREAM_TENSOR_MONOTONIC_CLOCK_H_

#include <chrono>

#include "absl/time/time.h"

namespace weightstream {

// Since an arbitrary moment of this boot.
inline absl::Duration MonotonicNow() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_MONOTONIC_CLOCK_H_
