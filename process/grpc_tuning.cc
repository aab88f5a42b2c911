#include "process/grpc_tuning.h"

#include <grpc/grpc.h>
#include <stdlib.h>

namespace weightstream {
namespace {

constexpr char kPollStrategy[] = "GRPC_POLL_STRATEGY";
// In their order: the first that gRPC has.
constexpr char kPollFirst[] = "poll,all";

}  // namespace

void TuneGrpcForStreaming() {
  if (grpc_is_initialized() != 0) return;
  const char* const chosen = getenv(kPollStrategy);
  if (chosen != nullptr && *chosen != '\0') {
    grpc_init();
    return;
  }
  // gRPC 1.51 has no other way to be told than the environment, which processes that this one starts inherit: they are
  // not to be tuned. An empty value would make gRPC abort.
  setenv(kPollStrategy, kPollFirst, 1);
  grpc_init();
  unsetenv(kPollStrategy);
}

}  // namespace weightstream
