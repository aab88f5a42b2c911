// One push to all of its servers: starts a session for each, supervises them and gives the word to commit.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_JOB_H_
#define WEIGHTSTREAM_CLIENT_PUSH_JOB_H_

#include <grpcpp/support/slice.h>

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "client/push.h"
#include "client/push_context.h"
#include "client/server_session.h"

namespace weightstream {

// The sessions run on threads of their own; everything here is the calling thread's. It decides the version once the
// servers have been asked, decides between commit and abort once all have everything or failed, looks for stalls and
// cancellation, and reports progress: so that the caller's functions are called from the caller's thread.
class PushJob {
 public:
  PushJob(const PushContext& context, const std::vector<std::string>& servers, PushProgressCallback progress,
          std::function<bool()> cancelled);

  // Blocks until every session has ended, and its threads and connections are gone.
  PushResult Run();

 private:
  struct Reported {
    PushProgress progress;
    absl::Duration at;
  };

  void SuperviseOnce();
  void CancelIfAsked();
  void DecideVersion();
  void GiveVersion(uint64_t version);
  void DecideCommit();
  // Once a session has failed, until it has stopped all others.
  void StopOthers(const ServerSession& failed);
  void ReportProgress();
  bool AllDone() const;
  // The first session that failed, if one did.
  const ServerSession* FirstFailure() const;
  PushResult Collect();

  const PushContext& context_;
  const PushProgressCallback progress_;
  const std::function<bool()> cancelled_;
  std::atomic<int> finished_ = 0;
  std::vector<std::unique_ptr<ServerSession>> sessions_;
  std::vector<Reported> reported_;
  // Encoded, for every server's BeginUpdate.
  grpc::Slice manifest_;
  uint64_t version_ = 0;
  absl::optional<absl::Duration> first_answer_;
  bool decided_ = false;
  // When a failure was first seen that ends the others, and those that were told so.
  absl::optional<absl::Duration> failed_since_;
  std::set<const ServerSession*> stopped_;
  bool cancel_seen_ = false;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_JOB_H_
