// Brings every byte of a version to one server, beginning and resuming the update as often as it takes.
#ifndef WEIGHTSTREAM_CLIENT_UPDATE_TRANSFER_H_
#define WEIGHTSTREAM_CLIENT_UPDATE_TRANSFER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/begin_reply.h"
#include "client/control_client.h"
#include "client/push_context.h"
#include "client/push_round.h"
#include "client/retry_budget.h"
#include "client/stall_watch.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

//   loop:
//     begin            learns what is missing; retried while the server does not answer
//     nothing missing  -> done
//     no new bytes     counts against max_attempts
//     round            sends what is missing over several streams, once; the second stall in a row is an error
//     all landed       -> done; failed for good -> error; else again
//
// Used by one thread at a time.
class UpdateTransfer {
 public:
  enum class End { kAllLanded, kVersionExists };

  // Told of each change between beginning (false) and sending (true).
  using PhaseCallback = std::function<void(bool sending)>;

  // `request` is for the version that is pushed.
  UpdateTransfer(const PushContext& context, const std::string& address, ControlClient& control, StallWatch& watch,
                 TransferCounters& counters, RetryBudget& budget, std::shared_ptr<const BeginMessage> request,
                 PhaseCallback on_phase);

  // kVersionExists where the server says that the version is committed already and `commit_sent` says that it may be
  // ours; without that it is ALREADY_EXISTS. Other errors: the first cause, with what preceded it.
  absl::StatusOr<End> Run(bool commit_sent);

  // Of the update that was begun last; empty before.
  const std::string& update_id() const { return update_id_; }

 private:
  absl::StatusOr<v1::BeginUpdateResponse> Begin();
  // Whether the server has more of this update than the last time.
  bool NoteBegun(const v1::BeginUpdateResponse& reply);
  // Waits before the next round; an error if there is to be none.
  absl::Status WaitAfter(const absl::Status& failure, bool fruitless);
  RoundResult RunRound(const v1::BeginUpdateResponse& reply, absl::Duration begin_took, Missing missing);

  const PushContext& context_;
  const std::string& address_;
  ControlClient& control_;
  StallWatch& watch_;
  TransferCounters& counters_;
  RetryBudget& budget_;
  const std::shared_ptr<const BeginMessage> request_;
  const PhaseCallback on_phase_;
  std::string update_id_;
  uint64_t least_missing_ = 0;
  // Rounds in a row that stalled and brought nothing.
  int stalls_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_UPDATE_TRANSFER_H_
