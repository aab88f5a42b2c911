// Calls the commit hook for each version that becomes current: in a thread of its own, so that it neither delays a
// commit nor undoes one.
//
// One attempt at a time, whatever the number of models: what loads them is one inference server. For one model the
// calls come in the order in which versions became current. A version that becomes current while an older one still
// waits for an attempt takes its place; an attempt that is under way is left to end first. Failed attempts are repeated
// after waits that double from options.first_wait to options.longest_wait, each cut at random by up to a half, at most
// options.attempts in all; meanwhile other models have their turn.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_RUNNER_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_RUNNER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/commit_hook.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

enum class CommitHookState { kPending, kSucceeded, kFailed };

// How far the hook is with the last version of a model that became current.
struct CommitHookRecord {
  uint64_t version = 0;
  CommitHookState state = CommitHookState::kPending;
  // Made so far; one that is under way counts.
  int attempts = 0;
  // What was answered last, or went wrong; empty before the first attempt ended.
  std::string message;
  // When the version became current, or the last attempt ended.
  absl::Time time;
};

// Since the start, of one model: versions for which the hook came to an end, by how, and attempts that failed.
struct CommitHookCounts {
  uint64_t succeeded = 0;
  // Given up.
  uint64_t failed = 0;
  uint64_t superseded = 0;
  uint64_t failed_attempts = 0;
};

// Thread-safe.
class CommitHookRunner {
 public:
  CommitHookRunner(const CommitHookOptions& options, std::unique_ptr<CommitHook> hook);
  // As Stop(absl::ZeroDuration()).
  ~CommitHookRunner();
  CommitHookRunner(const CommitHookRunner&) = delete;
  CommitHookRunner& operator=(const CommitHookRunner&) = delete;

  // Calls the hook for this version, soon. Does not wait.
  void BecameCurrent(CurrentVersionEvent event) ABSL_LOCKS_EXCLUDED(mutex_);

  // Nothing for a model of which no version became current since the start.
  absl::optional<CommitHookRecord> Find(const std::string& model) const ABSL_LOCKS_EXCLUDED(mutex_);
  CommitHookCounts Counts(const std::string& model) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Lets first attempts, the one under way among them, end for `patience`, and cuts what is left then. Nothing is
  // repeated any more. Idempotent.
  void Stop(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    CurrentVersionEvent event;
    CommitHookRecord record;
    CommitHookCounts counts;
    // The next attempt, while pending, as MonotonicNow() tells.
    absl::Duration due;
  };

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // The entry whose attempt is due first; null if none is pending.
  Entry* Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes the entry's next attempt. Lets go of the lock meanwhile.
  void Attempt(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::string> CallAndLog(const CurrentVersionEvent& event, int attempt) ABSL_LOCKS_EXCLUDED(mutex_);
  void Ended(Entry& entry, const CurrentVersionEvent& event, int attempt, const absl::StatusOr<std::string>& answer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Settles what is pending as failed: it was tried, and is not tried again. Lets go of the lock while it logs.
  void GiveUp(Entry& entry, absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration Wait(int attempts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CommitHookOptions options_;
  const std::unique_ptr<CommitHook> hook_;

  mutable absl::Mutex mutex_;
  // Signalled with each change, and at the end of the thread.
  MonotonicCondVar changed_;
  // As many as models became current: bounded by --max-models, but for those that were forgotten.
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  // Grows with each version and with Stop: what the thread waits for.
  uint64_t change_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whose attempt is under way; its record may be a newer version's by now.
  const Entry* running_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::minstd_rand random_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_RUNNER_H_
