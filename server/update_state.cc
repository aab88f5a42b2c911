#include "server/update_state.h"

namespace weightstream {
namespace {

struct Transition {
  UpdateState from;
  UpdateState to;
};

constexpr Transition kTransitions[] = {
    {UpdateState::kReceiving, UpdateState::kCommitting},
    {UpdateState::kReceiving, UpdateState::kAborted},
    {UpdateState::kCommitting, UpdateState::kCommitted},
    {UpdateState::kCommitting, UpdateState::kAborted},
};

}  // namespace

absl::string_view UpdateStateName(UpdateState state) {
  switch (state) {
    case UpdateState::kReceiving:
      return "receiving";
    case UpdateState::kCommitting:
      return "committing";
    case UpdateState::kCommitted:
      return "committed";
    case UpdateState::kAborted:
      return "aborted";
  }
  return "unknown";
}

bool IsLegalTransition(UpdateState from, UpdateState to) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == from && transition.to == to) return true;
  }
  return false;
}

bool IsFinal(UpdateState state) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == state) return false;
  }
  return true;
}

}  // namespace weightstream
