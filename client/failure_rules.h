// What to do after a call has failed: one table.
#ifndef WEIGHTSTREAM_CLIENT_FAILURE_RULES_H_
#define WEIGHTSTREAM_CLIENT_FAILURE_RULES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

enum class CallKind {
  kBegin,
  kPush,
  kCommit,
  // Anything that changes nothing on the server.
  kRead,
};

enum class Remedy {
  // The call is the end: trying again would fail again.
  kGiveUp,
  // Lost on the way, or the server was not there: the same call again.
  kRetry,
  // Begin the update again, to learn what the server has and misses.
  kBeginAgain,
  // The commit may have taken effect: look.
  kAskWhetherCommitted,
  // The server has another update in mind than we have: abort it, and begin again from nothing.
  kStartOver,
};

// `failure` is an error of a call that we did not cancel ourselves.
Remedy RemedyFor(CallKind kind, const absl::Status& failure);

// The same code, `context` and a colon before the message.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_FAILURE_RULES_H_
