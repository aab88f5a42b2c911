// The flags --on-commit..., which say what is told of a version that has become current, and how.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_FLAGS_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_FLAGS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "flags/command_line.h"
#include "server/commit_hook.h"

namespace weightstream {

std::vector<FlagSpec> CommitHookFlags();

// INVALID_ARGUMENT names the flag, what is wrong with it and what to do. Options that are not enabled where no flag
// asks for a hook. Of the program only that it can be executed is looked at.
absl::StatusOr<CommitHookOptions> CommitHookOptionsFrom(const CommandLine& line);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_FLAGS_H_
