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
  const char* const value = getenv(kPollStrategy);
  // An empty value would make gRPC abort.
  const bool ours_to_choose = value == nullptr || *value == '\0';
  // gRPC 1.51 has no other way to be told than the environment, which processes that this one starts inherit: they are
  // not to be tuned.
  if (ours_to_choose) setenv(kPollStrategy, kPollFirst, 1);
  grpc_init();
  if (ours_to_choose) unsetenv(kPollStrategy);
}

}  // namespace weightstream
