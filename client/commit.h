// Commits an update on one server, and finds out whether it did where the reply was lost.
#ifndef WEIGHTSTREAM_CLIENT_COMMIT_H_
#define WEIGHTSTREAM_CLIENT_COMMIT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/control_client.h"
#include "client/push_context.h"
#include "client/retry_budget.h"
#include "client/stall_watch.h"

namespace weightstream {

// What a commit came to.
struct CommitEnd {
  enum class Kind {
    // The version is there, with our bytes.
    kCommitted,
    // The update is not there any more, or misses bytes: transfer again. `cause` says what the server said.
    kTransferAgain,
  };
  Kind kind = Kind::kCommitted;
  std::string path;
  absl::Status cause;
};

// CommitUpdate is idempotent, so a lost reply is asked for by the same call. Where the server does not know the update
// any more (it was restarted), AskWhetherCommitted looks. An error is final; where the outcome could not be learned, it
// says so.
absl::StatusOr<CommitEnd> CommitOnServer(const PushContext& context, ControlClient& control, uint64_t version,
                                         const std::string& update_id, RetryBudget& budget, StallWatch& watch,
                                         TransferCounters& counters);

// Whether the server holds `version`; if so, every byte of it is compared with the source's by digests, so that another
// sender's version is not taken for ours: ALREADY_EXISTS if it is another's.
absl::StatusOr<CommitEnd> AskWhetherCommitted(const PushContext& context, ControlClient& control, uint64_t version,
                                              RetryBudget& budget, StallWatch& watch, TransferCounters& counters);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_COMMIT_H_
