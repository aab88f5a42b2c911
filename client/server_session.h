// One server's part of a push, on a thread of its own.
#ifndef WEIGHTSTREAM_CLIENT_SERVER_SESSION_H_
#define WEIGHTSTREAM_CLIENT_SERVER_SESSION_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/begin_reply.h"
#include "client/commit.h"
#include "client/control_client.h"
#include "client/push_context.h"
#include "client/stall_watch.h"
#include "client/stop_signal.h"
#include "client/update_transfer.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

//   kAsking -> kAsked        what does the server hold? (only where the version is to be chosen)
//           -> kTransferring begin and send, until every byte has landed; needs UseVersion
//           -> kReady        has everything and waits for Commit; back to kTransferring if the server loses it
//           -> kCommitting   back to kTransferring if the server has lost it
//           -> kDone         with an outcome; from every stage, at a failure or Stop
//
// The session's own thread goes through the stages; the supervisor reads them and gives the word. Thread-safe.
class ServerSession {
 public:
  enum class Stage { kAsking, kAsked, kTransferring, kReady, kCommitting, kDone };

  // Nothing happens before Start. `finished` counts the sessions of the push that have ended.
  ServerSession(const PushContext& context, std::string address, std::atomic<int>& finished);
  // Requires Join, if started.
  ~ServerSession();
  ServerSession(const ServerSession&) = delete;
  ServerSession& operator=(const ServerSession&) = delete;

  void Start(bool ask_versions);
  void Join();

  Stage stage() const ABSL_LOCKS_EXCLUDED(mutex_);
  const std::string& address() const { return address_; }

  // What the server says of the model; from kAsked on.
  v1::Model known() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The word to go on from kAsked (may come earlier), and from kReady.
  void UseVersion(std::shared_ptr<const BeginMessage> request) ABSL_LOCKS_EXCLUDED(mutex_);
  void Commit() ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the session with `cause`, unless it has ended; `abort_update` has the server drop what it has received.
  void Stop(absl::Status cause, bool abort_update) ABSL_LOCKS_EXCLUDED(mutex_);

  StallWatch& watch() { return watch_; }

  PushProgress progress() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The states at the changes of phase since the last call.
  std::vector<PushProgress> TakePhaseChanges() ABSL_LOCKS_EXCLUDED(mutex_);

  // Once it is kDone. `rank` counts how many sessions ended before.
  ServerOutcome outcome() const ABSL_LOCKS_EXCLUDED(mutex_);
  int rank() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run(bool ask_versions);
  absl::Status Perform(bool ask_versions);
  absl::Status AskVersions();
  // Waits for UseVersion.
  absl::StatusOr<std::shared_ptr<const BeginMessage>> AwaitVersion();
  absl::Status TransferAndCommit(UpdateTransfer& transfer);
  // True once Commit was called; false when it is time to ask the server whether it still has everything.
  absl::StatusOr<bool> AwaitVerdict();
  // An error, with which the update is aborted, if what was sent may not be one version.
  absl::Status CheckSource() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<CommitEnd> CommitNow(const std::string& update_id);
  void AbortIfUseless(const absl::Status& status);
  void Finish(const absl::Status& status);

  void Enter(Stage stage, PushPhase phase) ABSL_LOCKS_EXCLUDED(mutex_);
  void EnterTransfer(bool sending) ABSL_LOCKS_EXCLUDED(mutex_);
  PushProgress ProgressLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasVersionOrStop() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return request_ != nullptr || stop_asked_; }
  bool HasVerdictOrStop() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return commit_ || stop_asked_; }

  const PushContext& context_;
  const std::string address_;
  std::atomic<int>& finished_;
  StopSignal stop_;
  StallWatch watch_;
  TransferCounters counters_;
  RetryBudget budget_;
  ControlClient control_;
  std::thread thread_;
  // The session's thread only.
  std::string update_id_;
  std::string path_;

  mutable absl::Mutex mutex_;
  MonotonicCondVar verdict_;
  Stage stage_ ABSL_GUARDED_BY(mutex_) = Stage::kAsking;
  PushPhase phase_ ABSL_GUARDED_BY(mutex_) = PushPhase::kConnecting;
  std::vector<PushProgress> phase_changes_ ABSL_GUARDED_BY(mutex_);
  v1::Model known_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const BeginMessage> request_ ABSL_GUARDED_BY(mutex_);
  bool commit_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_asked_ ABSL_GUARDED_BY(mutex_) = false;
  bool abort_update_ ABSL_GUARDED_BY(mutex_) = false;
  ServerOutcome outcome_ ABSL_GUARDED_BY(mutex_);
  int rank_ ABSL_GUARDED_BY(mutex_) = 0;
  // On the monotonic clock; the moments between the outcome's times.
  absl::Duration started_ ABSL_GUARDED_BY(mutex_);
  absl::Duration begun_ ABSL_GUARDED_BY(mutex_);
  absl::Duration ready_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_SERVER_SESSION_H_
