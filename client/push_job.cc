#include "client/push_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/begin_reply.h"
#include "client/defaults.h"
#include "client/failure_rules.h"
#include "client/version_choice.h"
#include "proto/begin_codec.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

using Stage = ServerSession::Stage;

bool SameProgress(const PushProgress& a, const PushProgress& b) {
  return a.phase == b.phase && a.sent_bytes == b.sent_bytes && a.resumed_bytes == b.resumed_bytes &&
         a.retries == b.retries && a.version == b.version;
}

}  // namespace

PushJob::PushJob(const PushContext& context, const std::vector<std::string>& servers, PushProgressCallback progress,
                 std::function<bool()> cancelled)
    : context_(context), progress_(std::move(progress)), cancelled_(std::move(cancelled)), reported_(servers.size()) {
  for (const std::string& server : servers) {
    sessions_.push_back(std::make_unique<ServerSession>(context_, server, finished_));
  }
}

PushResult PushJob::Run() {
  const uint64_t version = context_.options.version;
  for (const std::unique_ptr<ServerSession>& session : sessions_) session->Start(/*ask_versions=*/version == 0);
  // While they connect.
  manifest_ = EncodeManifest(context_.source.tensors(), context_.index.layout_order());
  if (version != 0) GiveVersion(version);
  while (!AllDone()) {
    SuperviseOnce();
    // While they begin, rather than when the commit wants it. Once only.
    if (version_ != 0) context_.manifest_checksum.Get(context_.index);
    context_.wakeup.WaitFor(kSupervisionInterval);
  }
  ReportProgress();
  for (const std::unique_ptr<ServerSession>& session : sessions_) session->Join();
  PushResult result = Collect();
  // With them go the connections, and with those gRPC's hold on the source's bytes.
  sessions_.clear();
  return result;
}

void PushJob::SuperviseOnce() {
  CancelIfAsked();
  const absl::Duration now = MonotonicNow();
  for (const std::unique_ptr<ServerSession>& session : sessions_) session->watch().Check(now);
  DecideVersion();
  DecideCommit();
  ReportProgress();
}

void PushJob::CancelIfAsked() {
  if (cancel_seen_ || cancelled_ == nullptr || !cancelled_()) return;
  cancel_seen_ = true;
  for (const std::unique_ptr<ServerSession>& session : sessions_) {
    session->Stop(absl::CancelledError("cancelled by the caller"), /*abort_update=*/false);
  }
}

void PushJob::DecideVersion() {
  if (version_ != 0) return;
  std::vector<v1::Model> models;
  bool all_answered = true;
  for (const std::unique_ptr<ServerSession>& session : sessions_) {
    const Stage stage = session->stage();
    if (stage == Stage::kAsked) models.push_back(session->known());
    if (stage == Stage::kAsking) all_answered = false;
  }
  if (models.empty()) return;
  const absl::Duration now = MonotonicNow();
  if (!first_answer_.has_value()) first_answer_ = now;
  if (all_answered || now - *first_answer_ >= kVersionGrace) {
    GiveVersion(ChooseVersion(models, context_.source.source_id()));
  }
}

void PushJob::GiveVersion(uint64_t version) {
  version_ = version;
  const auto request = std::make_shared<const BeginMessage>(
      MakeBeginMessage(context_.source, manifest_, context_.options.model, version, context_.bucket_limit_bytes));
  for (const std::unique_ptr<ServerSession>& session : sessions_) session->UseVersion(request);
}

void PushJob::DecideCommit() {
  if (!failed_since_.has_value() && decided_) return;
  const ServerSession* failed = FirstFailure();
  if (failed != nullptr && !context_.options.allow_partial) {
    decided_ = true;
    StopOthers(*failed);
    return;
  }
  for (const std::unique_ptr<ServerSession>& session : sessions_) {
    const Stage stage = session->stage();
    if (stage != Stage::kReady && stage != Stage::kDone) return;
  }
  decided_ = true;
  for (const std::unique_ptr<ServerSession>& session : sessions_) session->Commit();
}

void PushJob::StopOthers(const ServerSession& failed) {
  const absl::Status cause = failed.outcome().status;
  const absl::Duration now = MonotonicNow();
  if (!failed_since_.has_value()) failed_since_ = now;
  for (const std::unique_ptr<ServerSession>& session : sessions_) {
    if (session.get() == &failed || stopped_.count(session.get()) > 0) continue;
    // A BeginUpdate that is cut short may yet begin an update, whose id nobody would know to abort it by.
    const bool beginning = session->progress().phase == PushPhase::kBeginning;
    if (beginning && now - *failed_since_ < kBeginGrace) continue;
    stopped_.insert(session.get());
    session->Stop(absl::AbortedError(absl::StrCat("not committed: ", failed.address(), " failed: ",
                                                  absl::StatusCodeToString(cause.code()), ": ", cause.message())),
                  /*abort_update=*/true);
  }
}

void PushJob::ReportProgress() {
  const absl::Duration now = MonotonicNow();
  for (size_t i = 0; i < sessions_.size(); ++i) {
    const std::vector<PushProgress> changes = sessions_[i]->TakePhaseChanges();
    if (progress_ == nullptr) continue;
    for (const PushProgress& change : changes) progress_(change);
    if (!changes.empty()) reported_[i] = {changes.back(), now};
    // Other servers' changes bring us here more often than that.
    if (now - reported_[i].at < kSupervisionInterval) continue;
    const PushProgress current = sessions_[i]->progress();
    if (SameProgress(current, reported_[i].progress)) continue;
    reported_[i] = {current, now};
    progress_(current);
  }
}

bool PushJob::AllDone() const {
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [](const std::unique_ptr<ServerSession>& session) { return session->stage() == Stage::kDone; });
}

const ServerSession* PushJob::FirstFailure() const {
  const ServerSession* first = nullptr;
  for (const std::unique_ptr<ServerSession>& session : sessions_) {
    if (session->stage() != Stage::kDone || session->outcome().status.ok()) continue;
    if (first == nullptr || session->rank() < first->rank()) first = session.get();
  }
  return first;
}

PushResult PushJob::Collect() {
  PushResult result;
  result.version = version_;
  result.total_bytes = context_.total_bytes;
  result.tensors = context_.source.tensors().size();
  for (const std::unique_ptr<ServerSession>& session : sessions_) result.servers.push_back(session->outcome());
  if (const ServerSession* failed = FirstFailure(); failed != nullptr) {
    result.status = Annotate(failed->outcome().status, failed->address());
  }
  return result;
}

}  // namespace weightstream
