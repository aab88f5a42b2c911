#include "client/commit.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/defaults.h"
#include "client/digest_comparison.h"
#include "client/failure_rules.h"

namespace weightstream {
namespace {

absl::Status OutcomeUnknown(const absl::Status& cause, const std::string& model, uint64_t version) {
  return Annotate(cause,
                  absl::StrCat("the commit was sent but not answered, so version ", version, " of \"", model,
                               "\" may or may not be current on this server; ask it with `weightstream status`"));
}

CommitEnd TransferAgain(absl::Status cause) {
  CommitEnd end;
  end.kind = CommitEnd::Kind::kTransferAgain;
  end.cause = std::move(cause);
  return end;
}

// Best effort: where it is lost, what is begun next finds the update in its way and says so.
void Abort(const PushContext& context, ControlClient& control, const std::string& update_id,
           const absl::Status& cause) {
  v1::AbortUpdateRequest request;
  request.set_model(context.options.model);
  request.set_update_id(update_id);
  request.set_reason(std::string(cause.message()));
  const absl::Status ignored = control.AbortUpdate(request, std::min(kAbortLimit, context.options.limits.call));
  static_cast<void>(ignored);
}

}  // namespace

absl::StatusOr<CommitEnd> CommitOnServer(const PushContext& context, ControlClient& control, uint64_t version,
                                         const std::string& update_id, RetryBudget& budget, StallWatch& watch,
                                         TransferCounters& counters) {
  v1::CommitUpdateRequest request;
  request.set_model(context.options.model);
  request.set_update_id(update_id);
  request.set_version(version);
  if (const absl::optional<uint32_t> crc32c = context.manifest_checksum.Get(context.index); crc32c.has_value()) {
    request.set_manifest_crc32c(*crc32c);
  }
  absl::StatusOr<v1::CommitUpdateResponse> reply = CallUntilAnswered<v1::CommitUpdateResponse>(
      control, CallKind::kCommit, budget, [&] { return control.CommitUpdate(request, context.total_bytes); },
      [&] { counters.retries.fetch_add(1); });
  if (reply.ok()) {
    CommitEnd end;
    end.path = reply->path();
    return end;
  }
  if (control.stop().stopped()) return OutcomeUnknown(reply.status(), context.options.model, version);
  switch (RemedyFor(CallKind::kCommit, reply.status())) {
    case Remedy::kAskWhetherCommitted: {
      absl::StatusOr<CommitEnd> asked = AskWhetherCommitted(context, control, version, budget, watch, counters);
      if (asked.ok() && asked->kind == CommitEnd::Kind::kTransferAgain) asked->cause = reply.status();
      return asked;
    }
    case Remedy::kBeginAgain:
      return TransferAgain(reply.status());
    case Remedy::kStartOver:
      Abort(context, control, update_id, reply.status());
      return TransferAgain(reply.status());
    case Remedy::kRetry:
      // The budget is used up.
      return OutcomeUnknown(reply.status(), context.options.model, version);
    case Remedy::kGiveUp:
      break;
  }
  return reply.status();
}

absl::StatusOr<CommitEnd> AskWhetherCommitted(const PushContext& context, ControlClient& control, uint64_t version,
                                              RetryBudget& budget, StallWatch& watch, TransferCounters& counters) {
  v1::GetModelRequest request;
  request.set_model(context.options.model);
  const absl::StatusOr<v1::Model> model = CallUntilAnswered<v1::Model>(
      control, CallKind::kRead, budget, [&] { return control.GetModel(request); },
      [&] { counters.retries.fetch_add(1); });
  const absl::Status lost = absl::NotFoundError("the server was restarted and lost the update");
  if (absl::IsNotFound(model.status())) return TransferAgain(lost);
  if (!model.ok()) return OutcomeUnknown(model.status(), context.options.model, version);

  for (const v1::VersionInfo& held : model->versions()) {
    if (held.version() != version) continue;
    std::atomic<uint64_t> compared_bytes = 0;
    const absl::StatusOr<VerifyResult> verified =
        CompareByDigests(context.source, context.index, control, {context.options.model, version},
                         context.options.limits, budget, watch, compared_bytes);
    if (!verified.ok()) return OutcomeUnknown(verified.status(), context.options.model, version);
    if (verified->differing_tensors > 0) {
      return absl::AlreadyExistsError(absl::StrCat("version ", version, " of \"", context.options.model,
                                                   "\" was committed by another sender, with other bytes: tensor \"",
                                                   Printable(verified->differences.front().tensor),
                                                   "\": ", verified->differences.front().what));
    }
    CommitEnd end;
    end.path = held.path();
    return end;
  }
  return TransferAgain(lost);
}

}  // namespace weightstream
