// One Push stream on one connection: takes chunks from the plan until it is empty or the stream fails.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_STREAM_H_
#define WEIGHTSTREAM_CLIENT_PUSH_STREAM_H_

#include <grpcpp/channel.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "client/planner.h"
#include "client/push_context.h"
#include "client/stall_watch.h"
#include "client/stop_signal.h"

namespace weightstream {

struct PushStreamTask {
  const PushContext& context;
  const std::string& update_id;
  // Goes with the stream, where it is not empty.
  const std::string& traceparent;
  ChunkPlan& plan;
  StopSignal& stop;
  StallWatch& watch;
  TransferCounters& counters;
};

// Sends until the plan is empty, and waits for the server's word that it has landed; returns how many bytes of the
// update it then still missed, over all streams. Where the plan is empty from the start, it opens no stream and returns
// nothing: it knows nothing of what is missing. Blocking Write is the backpressure: it returns when the connection has
// taken the chunk, so that one or two are in flight a stream; of chunks below 64 KiB up to that much may still wait
// here, and is counted as sent. An error is what the server or the connection said; after
// a stop, mostly CANCELLED, which the caller replaces by the stop's cause.
absl::StatusOr<absl::optional<uint64_t>> RunPushStream(grpc::Channel& channel, const PushStreamTask& task);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_STREAM_H_
