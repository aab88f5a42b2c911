// absl::Status to grpc::Status and back: the one place where they meet. Pure; may be called from any thread.
#ifndef WEIGHTSTREAM_PROTO_STATUS_H_
#define WEIGHTSTREAM_PROTO_STATUS_H_

#include <grpcpp/support/status.h>

#include <cstddef>

#include "absl/status/status.h"

namespace weightstream {

// Longest message that is sent. gRPC carries it in a header and refuses headers of more than 8 KiB in all, so it counts
// as gRPC writes it: three bytes for each byte that is not printable ASCII, and for '%'.
inline constexpr size_t kMaxStatusMessageBytes = 4096;

// The codes are the same numbers by definition. A message over kMaxStatusMessageBytes is cut there, between characters.
grpc::Status ToGrpcStatus(const absl::Status& status);
// A number that is no canonical code becomes UNKNOWN.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_STATUS_H_
