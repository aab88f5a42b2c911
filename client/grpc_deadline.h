// Durations as gRPC's deadlines.
#ifndef WEIGHTSTREAM_CLIENT_GRPC_DEADLINE_H_
#define WEIGHTSTREAM_CLIENT_GRPC_DEADLINE_H_

#include <grpcpp/client_context.h>

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace weightstream {

// A century at most, so that an infinite duration does not overflow gRPC's clock.
inline std::chrono::system_clock::time_point SystemDeadline(absl::Duration limit) {
  const absl::Duration bounded = std::clamp(limit, absl::ZeroDuration(), absl::Hours(24 * 365 * 100));
  return std::chrono::system_clock::now() + absl::ToChronoMicroseconds(bounded);
}

inline void SetDeadline(grpc::ClientContext& context, absl::Duration limit) {
  context.set_deadline(SystemDeadline(limit));
}

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_GRPC_DEADLINE_H_
