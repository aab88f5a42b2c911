// Tells an inference server by a program, which is started without a shell and without arguments. In its environment,
// beside the server's own, are WEIGHTSTREAM_MODEL, WEIGHTSTREAM_VERSION, WEIGHTSTREAM_PATH and WEIGHTSTREAM_FOLDER.
// Exit code 0 is success. What it prints, on stdout or stderr, is its answer.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_EXEC_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_EXEC_H_

#include <memory>
#include <string>

#include "server/commit_hook.h"

namespace weightstream {

// `program` is a path. After `timeout` it is killed, with what it started.
std::unique_ptr<CommitHook> NewExecHook(std::string program, absl::Duration timeout);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_EXEC_H_
