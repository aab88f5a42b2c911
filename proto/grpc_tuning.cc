#include "proto/grpc_tuning.h"

#include <grpc/grpc.h>
#include <stdlib.h>

namespace weightstream {
namespace {

constexpr char kPollStrategy[] = "GRPC_POLL_STRATEGY";

}  // namespace

void TuneGrpcForStreaming() {
  // gRPC 1.51 has no other way to be told than the environment, which processes that this one starts inherit: they are
  // not to be tuned.
  const bool chosen = getenv(kPollStrategy) != nullptr;
  if (!chosen) setenv(kPollStrategy, "poll", 1);
  grpc_init();
  if (!chosen) unsetenv(kPollStrategy);
}

}  // namespace weightstream
