// What tells an inference server that a version has become current: a POST (commit_hook_http) or a program
// (commit_hook_exec). When it is called, how often, and what becomes of failures is commit_hook_runner.h's.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "proto/trace_context.h"
#include "server/commit_hook_body.h"

namespace weightstream {

// The version that became current, and where its file lies: absolute paths.
struct CurrentVersionEvent {
  std::string model;
  uint64_t version = 0;
  std::string folder;
  std::string path;
  // The update that brought it; empty after a rollback, and for what was there at the start.
  std::string update{};
  // Of the call that made it current. The hook is told a span of this trace, too.
  absl::optional<TraceContext> trace{};
};

struct CommitHookRequest {
  // With its leading slash, and its query if it has one.
  std::string path;
  CommitHookBody body;
};

// What the flags --on-commit... say.
struct CommitHookOptions {
  // Either the requests, which go to host and port one after the other, or the program; or neither.
  std::string host;
  int port = 0;
  std::vector<CommitHookRequest> requests;
  std::string program;
  // The one whose versions are told of; empty for every model.
  std::string model;

  // For one attempt. To load weights takes minutes at most.
  absl::Duration timeout = absl::Minutes(5);
  // Then the hook has failed for this version. With the waits below they span a minute and a half: long enough for an
  // inference server that is restarted; one that takes longer loads the current version as it starts.
  int attempts = 8;
  absl::Duration first_wait = absl::Seconds(1);
  absl::Duration longest_wait = absl::Seconds(30);

  bool enabled() const { return !requests.empty() || !program.empty(); }
  bool tells_of(const std::string& name) const { return model.empty() || name == model; }

  // True if a request says where the version's file lies. A program is told by its environment, and may do without.
  bool names_files() const {
    return std::any_of(requests.begin(), requests.end(),
                       [](const CommitHookRequest& request) { return request.body.names_files(); });
  }
};

class CommitHook {
 public:
  virtual ~CommitHook() = default;

  // One attempt. Returns what was answered, in a line; or an error that says what was wrong, with the answer in it.
  // DEADLINE_EXCEEDED after the timeout, CANCELLED after Cut(). One at a time.
  virtual absl::StatusOr<std::string> Call(const CurrentVersionEvent& event) = 0;

  // Ends the attempt that is under way, and those to come. Any thread; does not wait.
  virtual void Cut() = 0;
};

// The one that `options`, which are enabled, ask for.
std::unique_ptr<CommitHook> NewCommitHook(const CommitHookOptions& options);

// What somebody else said, in one line of at most a few hundred bytes.
std::string ShortAnswer(absl::string_view answer);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_H_
