#include "client/update_transfer.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/address.h"
#include "client/begin_reply.h"
#include "client/failure_rules.h"
#include "client/pace.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

constexpr int kMostStalls = 2;

// Both what ended the attempts and what went wrong before, where that is something else.
absl::Status WithPreceding(const absl::Status& status, const absl::Status& preceding) {
  if (preceding.ok() || preceding.message() == status.message()) return status;
  return absl::Status(
      status.code(), absl::StrCat(status.message(), " (before that, ", absl::StatusCodeToString(preceding.code()), ": ",
                                  preceding.message(), ")"));
}

// With a server on this machine: those that this process may use. (What a cgroup's quota leaves of them is not seen.)
int SharedProcessors(const std::string& address) {
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  cpu_set_t usable;
  if (!parsed.ok() || !IsLocalAddress(*parsed) || sched_getaffinity(0, sizeof(usable), &usable) != 0) return 0;
  return CPU_COUNT(&usable);
}

}  // namespace

UpdateTransfer::UpdateTransfer(const PushContext& context, const std::string& address, ControlClient& control,
                               StallWatch& watch, TransferCounters& counters, RetryBudget& budget,
                               std::shared_ptr<const BeginMessage> request, PhaseCallback on_phase)
    : context_(context),
      address_(address),
      control_(control),
      watch_(watch),
      counters_(counters),
      budget_(budget),
      request_(std::move(request)),
      on_phase_(std::move(on_phase)) {}

absl::StatusOr<UpdateTransfer::End> UpdateTransfer::Run(bool commit_sent) {
  absl::Status failure;
  for (;;) {
    const absl::Duration began = MonotonicNow();
    const absl::StatusOr<v1::BeginUpdateResponse> reply = Begin();
    const absl::Duration begin_took = MonotonicNow() - began;
    if (absl::IsAlreadyExists(reply.status()) && commit_sent) return End::kVersionExists;
    if (!reply.ok()) return WithPreceding(reply.status(), failure);
    absl::StatusOr<Missing> missing = CheckBeginReply(*reply, context_.index);
    if (!missing.ok()) return missing.status();

    const bool progressed = NoteBegun(*reply);
    if (reply->missing_bytes() == 0) return End::kAllLanded;
    if (!failure.ok()) {
      const absl::Status wait = WaitAfter(failure, !progressed);
      if (!wait.ok()) return wait;
    }

    const RoundResult round = RunRound(*reply, begin_took, *std::move(missing));
    if (round.complete) {
      budget_.Progressed();
      least_missing_ = 0;
      return End::kAllLanded;
    }
    if (control_.stop().stopped()) return control_.stop().cause();
    if (round.give_up) return round.cause;
    // It answers BeginUpdate but takes no data: once may be chance, and waiting longer than twice is no help to anyone.
    stalls_ = round.stalled ? stalls_ + 1 : 0;
    if (stalls_ >= kMostStalls) return Annotate(round.cause, "the server answers but takes no data");
    failure = round.cause;
    counters_.retries.fetch_add(1);
    budget_.LastAlive(watch_.last_progress());
  }
}

absl::StatusOr<v1::BeginUpdateResponse> UpdateTransfer::Begin() {
  on_phase_(false);
  return CallUntilAnswered<v1::BeginUpdateResponse>(
      control_, CallKind::kBegin, budget_, [this] { return control_.BeginUpdate(request_->bytes); },
      [this] { counters_.retries.fetch_add(1); });
}

bool UpdateTransfer::NoteBegun(const v1::BeginUpdateResponse& reply) {
  const uint64_t landed = context_.total_bytes - std::min(reply.missing_bytes(), context_.total_bytes);
  const bool first = update_id_.empty();
  const bool same = reply.update_id() == update_id_;
  const bool progressed = same && reply.missing_bytes() < least_missing_;
  if (first) counters_.resumed_bytes.store(reply.resumed() ? landed : 0);
  // A server that was restarted has lost what an earlier push had brought as well.
  if (!first && !same) counters_.resumed_bytes.store(std::min(counters_.resumed_bytes.load(), landed));
  if (!same || progressed) least_missing_ = reply.missing_bytes();
  update_id_ = reply.update_id();
  counters_.round_bytes.store(0);
  counters_.landed_bytes.store(landed);
  if (progressed) {
    budget_.Progressed();
    stalls_ = 0;
  }
  return progressed;
}

absl::Status UpdateTransfer::WaitAfter(const absl::Status& failure, bool fruitless) {
  absl::Duration wait = budget_.ShortWait();
  if (fruitless) {
    const absl::StatusOr<absl::Duration> longer = budget_.Fruitless(failure);
    if (!longer.ok()) return longer.status();
    wait = *longer;
  }
  return control_.stop().WaitFor(wait) ? control_.stop().cause() : absl::OkStatus();
}

RoundResult UpdateTransfer::RunRound(const v1::BeginUpdateResponse& reply, absl::Duration begin_took, Missing missing) {
  on_phase_(true);
  // To begin takes no less than a round trip, and more only with many tensors.
  const absl::Duration round_trip =
      begin_took < kNearRoundTrip ? begin_took : control_.RoundTrip(context_.options.model, kNearRoundTrip);
  const Pace pace =
      ChoosePace(round_trip, {.bucket_limit_bytes = std::min(context_.bucket_limit_bytes, reply.bucket_limit_bytes()),
                              .chunk_size_given = context_.options.bucket_limit_bytes != 0,
                              .connections = context_.connections,
                              .connections_given = context_.options.connections != 0,
                              .shared_processors = SharedProcessors(address_),
                              .servers_here = context_.servers_here});
  const bool pack = reply.takes_packed_chunks();
  absl::optional<ChunkPlan> plan;
  if (missing.everything) {
    plan.emplace(context_.index, pace.chunk_bytes, pack);
  } else {
    plan.emplace(context_.source.tensors(), std::move(missing.tensors), pace.chunk_bytes, pack);
  }
  return RunPushRound(context_, address_, reply.update_id(), control_.traceparent(), *plan, pace, control_.stop(),
                      watch_, counters_);
}

}  // namespace weightstream
