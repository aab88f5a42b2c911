// absl::Status to grpc::Status and back: the one place where they meet.
#ifndef WEIGHTSTREAM_PROTO_STATUS_H_
#define WEIGHTSTREAM_PROTO_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace weightstream {

// The codes are the same numbers by definition. A message is cut to 4 KiB (gRPC sends it as a header, whose size is bounded).
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_STATUS_H_
