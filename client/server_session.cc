#include "client/server_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/defaults.h"
#include "client/failure_rules.h"
#include "client/start_thread.h"
#include "proto/trace_context.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// For one server's update; empty where there is no trace.
std::string ChildTraceparent(const std::string& parent) {
  const absl::optional<TraceContext> context = ParseTraceparent(parent);
  return context.has_value() ? FormatTraceparent(ChildOf(*context)) : "";
}

}  // namespace

ServerSession::ServerSession(const PushContext& context, std::string address, std::atomic<int>& finished)
    : context_(context),
      address_(std::move(address)),
      finished_(finished),
      budget_(context.options.max_attempts, context.options.limits.connect),
      control_(address_, context.options.limits, context.credentials, stop_,
               ChildTraceparent(context.options.traceparent)) {}

ServerSession::~ServerSession() = default;

void ServerSession::Start(bool ask_versions) {
  {
    absl::MutexLock lock(&mutex_);
    started_ = MonotonicNow();
  }
  Enter(Stage::kAsking, PushPhase::kConnecting);
  const absl::Status started = StartThread(thread_, [this, ask_versions] { Run(ask_versions); });
  if (!started.ok()) Finish(started);
}

void ServerSession::Join() {
  if (thread_.joinable()) thread_.join();
}

void ServerSession::Run(bool ask_versions) {
  const absl::Status status = Perform(ask_versions);
  if (!status.ok()) AbortIfUseless(status);
  Finish(status);
}

absl::Status ServerSession::Perform(bool ask_versions) {
  if (ask_versions) {
    const absl::Status asked = AskVersions();
    if (!asked.ok()) return asked;
  }
  const absl::StatusOr<std::shared_ptr<const BeginMessage>> request = AwaitVersion();
  if (!request.ok()) return request.status();
  UpdateTransfer transfer(context_, address_, control_, watch_, counters_, budget_, *request,
                          [this](bool sending) { EnterTransfer(sending); });
  const absl::Status status = TransferAndCommit(transfer);
  update_id_ = transfer.update_id();
  return status;
}

absl::Status ServerSession::AskVersions() {
  v1::GetModelRequest request;
  request.set_model(context_.options.model);
  absl::StatusOr<v1::Model> model = CallUntilAnswered<v1::Model>(
      control_, CallKind::kRead, budget_, [&] { return control_.GetModel(request); },
      [this] { counters_.retries.fetch_add(1); });
  if (!model.ok() && !absl::IsNotFound(model.status())) return model.status();
  {
    absl::MutexLock lock(&mutex_);
    if (model.ok()) known_ = *std::move(model);
    stage_ = Stage::kAsked;
  }
  context_.wakeup.Notify();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const BeginMessage>> ServerSession::AwaitVersion() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &ServerSession::HasVersionOrStop));
  if (stop_asked_) return stop_.cause();
  return request_;
}

absl::Status ServerSession::TransferAndCommit(UpdateTransfer& transfer) {
  // Each found the update gone, or bytes missing from it.
  int failed_commits = 0;
  bool commit_sent = false;
  for (;;) {
    const absl::StatusOr<UpdateTransfer::End> end = transfer.Run(commit_sent);
    if (!end.ok()) return end.status();
    absl::StatusOr<CommitEnd> commit;
    if (*end == UpdateTransfer::End::kVersionExists) {
      const uint64_t version = progress().version;
      commit = AskWhetherCommitted(context_, control_, version, budget_, watch_, counters_);
    } else {
      const absl::StatusOr<bool> verdict = AwaitVerdict();
      if (!verdict.ok()) return verdict.status();
      if (!*verdict) continue;
      const absl::Status unchanged = CheckSource();
      if (!unchanged.ok()) return unchanged;
      commit_sent = true;
      commit = CommitNow(transfer.update_id());
    }
    if (!commit.ok()) return commit.status();
    if (commit->kind == CommitEnd::Kind::kCommitted) {
      path_ = commit->path;
      return absl::OkStatus();
    }
    // Not the budget's to count: all the bytes that were sent again in between are no progress.
    if (++failed_commits >= context_.options.max_attempts) {
      return Annotate(commit->cause, absl::StrCat("gave up after ", failed_commits, " commits without effect"));
    }
    counters_.retries.fetch_add(1);
    if (stop_.WaitFor(budget_.ShortWait())) return stop_.cause();
  }
}

absl::StatusOr<bool> ServerSession::AwaitVerdict() {
  Enter(Stage::kReady, PushPhase::kWaiting);
  absl::MutexLock lock(&mutex_);
  if (ready_ == absl::ZeroDuration()) ready_ = MonotonicNow();
  const absl::Duration hold = std::min(kHoldInterval, context_.options.limits.stall / 2);
  verdict_.AwaitFor(mutex_, hold, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return HasVerdictOrStop(); });
  if (stop_asked_) return stop_.cause();
  return commit_;
}

absl::Status ServerSession::CheckSource() {
  const absl::Status unchanged = context_.source.CheckUnchanged();
  if (unchanged.ok()) return unchanged;
  const absl::Status cause(
      unchanged.code(), absl::StrCat("not committed: ", unchanged.message(), "; push again once its writer is done"));
  // The bytes that have landed are of no use to a later push either.
  Stop(cause, /*abort_update=*/true);
  return cause;
}

absl::StatusOr<CommitEnd> ServerSession::CommitNow(const std::string& update_id) {
  Enter(Stage::kCommitting, PushPhase::kCommitting);
  const absl::Duration began = MonotonicNow();
  absl::StatusOr<CommitEnd> end =
      CommitOnServer(context_, control_, progress().version, update_id, budget_, watch_, counters_);
  absl::MutexLock lock(&mutex_);
  outcome_.commit_time += MonotonicNow() - began;
  return end;
}

void ServerSession::AbortIfUseless(const absl::Status& status) {
  if (update_id_.empty()) return;
  v1::AbortUpdateRequest request;
  {
    absl::MutexLock lock(&mutex_);
    // What the server itself refused it would hold for nobody, on a medium that may be full.
    const bool refused = !stop_asked_ && RemedyFor(CallKind::kPush, status) == Remedy::kGiveUp;
    if (!abort_update_ && !refused) return;
    request.set_reason(std::string(abort_update_ ? stop_.cause().message() : status.message()));
  }
  request.set_model(context_.options.model);
  request.set_update_id(update_id_);
  // Best effort: a server that is not there drops the update by itself, and its failure would hide the cause.
  const absl::Status ignored = control_.AbortUpdate(request, std::min(kAbortLimit, context_.options.limits.call));
  static_cast<void>(ignored);
}

void ServerSession::Finish(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    const absl::Duration now = MonotonicNow();
    outcome_.server = address_;
    outcome_.status = status;
    outcome_.path = path_;
    outcome_.update_id = update_id_;
    outcome_.traceparent = control_.traceparent();
    outcome_.sent_bytes = counters_.sent_bytes.load();
    outcome_.resumed_bytes = counters_.resumed_bytes.load();
    outcome_.retries = counters_.retries.load();
    const bool begun = begun_ != absl::ZeroDuration();
    const bool ready = ready_ != absl::ZeroDuration();
    outcome_.begin_time = (begun ? begun_ : ready ? ready_ : now) - started_;
    outcome_.send_time = begun ? (ready ? ready_ : now) - begun_ : absl::ZeroDuration();
    rank_ = finished_.fetch_add(1);
  }
  Enter(Stage::kDone, status.ok() ? PushPhase::kDone : PushPhase::kFailed);
}

void ServerSession::Enter(Stage stage, PushPhase phase) {
  {
    absl::MutexLock lock(&mutex_);
    stage_ = stage;
    if (phase_ != phase || phase == PushPhase::kConnecting) {
      phase_ = phase;
      phase_changes_.push_back(ProgressLocked());
    }
  }
  context_.wakeup.Notify();
}

void ServerSession::EnterTransfer(bool sending) {
  {
    absl::MutexLock lock(&mutex_);
    // Asking a ready server whether it still has everything is no change, as long as it has.
    if (!sending && stage_ == Stage::kReady) return;
    if (sending && begun_ == absl::ZeroDuration()) begun_ = MonotonicNow();
  }
  Enter(Stage::kTransferring, sending ? PushPhase::kSending : PushPhase::kBeginning);
}

PushProgress ServerSession::ProgressLocked() const {
  PushProgress progress;
  progress.server = address_;
  progress.phase = phase_;
  progress.version = request_ == nullptr ? context_.options.version : request_->version;
  progress.total_bytes = context_.total_bytes;
  progress.resumed_bytes = counters_.resumed_bytes.load();
  const uint64_t there = std::min(context_.total_bytes, counters_.landed_bytes.load() + counters_.round_bytes.load());
  progress.sent_bytes = there - std::min(there, progress.resumed_bytes);
  progress.retries = counters_.retries.load();
  return progress;
}

PushProgress ServerSession::progress() const {
  absl::MutexLock lock(&mutex_);
  return ProgressLocked();
}

std::vector<PushProgress> ServerSession::TakePhaseChanges() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(phase_changes_, {});
}

ServerSession::Stage ServerSession::stage() const {
  absl::MutexLock lock(&mutex_);
  return stage_;
}

v1::Model ServerSession::known() const {
  absl::MutexLock lock(&mutex_);
  return known_;
}

void ServerSession::UseVersion(std::shared_ptr<const BeginMessage> request) {
  absl::MutexLock lock(&mutex_);
  request_ = std::move(request);
}

void ServerSession::Commit() {
  absl::MutexLock lock(&mutex_);
  commit_ = true;
  verdict_.SignalAll();
}

void ServerSession::Stop(absl::Status cause, bool abort_update) {
  // The signal first: whoever sees stop_asked_ may ask it for the cause.
  stop_.Stop(std::move(cause));
  absl::MutexLock lock(&mutex_);
  if (stop_asked_) return;
  stop_asked_ = true;
  verdict_.SignalAll();
  abort_update_ = abort_update;
}

ServerOutcome ServerSession::outcome() const {
  absl::MutexLock lock(&mutex_);
  return outcome_;
}

int ServerSession::rank() const {
  absl::MutexLock lock(&mutex_);
  return rank_;
}

}  // namespace weightstream
