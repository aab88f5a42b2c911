// The states of an update and the ways between them: the one table that everything else asks.
//
//                BeginUpdate
//                    |
//                    v        AbortUpdate, superseded, idle, shutdown, device failed
//               [kReceiving] ------------------------------------------> [kAborted]
//                    | CommitUpdate, nothing missing                          ^
//                    v                                                        |
//               [kCommitting] ------------ the store could not publish -------+
//                    | published
//                    v
//               [kCommitted]
#ifndef WEIGHTSTREAM_SERVER_UPDATE_STATE_H_
#define WEIGHTSTREAM_SERVER_UPDATE_STATE_H_

#include "absl/strings/string_view.h"

namespace weightstream {

enum class UpdateState { kReceiving, kCommitting, kCommitted, kAborted };

absl::string_view UpdateStateName(UpdateState state);

bool IsLegalTransition(UpdateState from, UpdateState to);

// True for the states that nothing leaves.
bool IsFinal(UpdateState state);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_UPDATE_STATE_H_
