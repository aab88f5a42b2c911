// Sends what a server misses, once, over several connections at a time.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_ROUND_H_
#define WEIGHTSTREAM_CLIENT_PUSH_ROUND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/pace.h"
#include "client/planner.h"
#include "client/push_context.h"
#include "client/stall_watch.h"
#include "client/stop_signal.h"

namespace weightstream {

struct RoundResult {
  // Every byte has landed.
  bool complete = false;
  // Not to be tried again; `cause` says why.
  bool give_up = false;
  // Ended by the watch.
  bool stalled = false;
  // The first failure that ended the round, or the first of a stream if others went on. Where all streams succeeded and
  // yet bytes are missing, it says so.
  absl::Status cause;
};

// Sends what the plan has left, over as many connections and streams as the pace says. Blocks until every stream has
// ended. A stream that fails in a way that can be repeated ends alone, and the others take what it would have sent; one
// that fails for good, a stall or a stop ends them all. The connections are new, and closed at the end, so that a retry
// does not inherit a path that has failed. `traceparent` goes with each stream, where it is not empty.
RoundResult RunPushRound(const PushContext& context, const std::string& address, const std::string& update_id,
                         const std::string& traceparent, ChunkPlan& plan, const Pace& pace, StopSignal& stop,
                         StallWatch& watch, TransferCounters& counters);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_ROUND_H_
