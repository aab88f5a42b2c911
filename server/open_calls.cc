#include "server/open_calls.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"
#include "proto/status.h"
#include "server/peer.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// How soon a call that is held back notices that it is over.
constexpr absl::Duration kLongestNap = absl::Milliseconds(50);

// How long a call waits for the place of one that was cut for it, and how many are: others may take it first.
constexpr absl::Duration kPlacePatience = absl::Seconds(2);
constexpr int kPlaceAttempts = 3;

}  // namespace

void CutCall(grpc::ServerContext* context, const absl::Status& reason) {
  const grpc::Status status = ToGrpcStatus(reason);
  grpc_call_cancel_with_status(context->c_call(), static_cast<grpc_status_code>(status.error_code()),
                               status.error_message().c_str(), nullptr);
}

OpenCalls::Call::~Call() {
  absl::MutexLock lock(&calls_.mutex_);
  const auto state = calls_.open_.find(token_);
  const auto count = calls_.of_peer_.find(state->second.peer);
  if (--count->second == 0) calls_.of_peer_.erase(count);
  if (state->second.kind == Kind::kLasting) --calls_.lasting_;
  calls_.open_.erase(state);
  calls_.left_.SignalAll();
}

void OpenCalls::Call::AwaitPeer() {
  const absl::Duration deadline = MonotonicNow() + calls_.bounds_.patience;
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_.at(token_).deadline = deadline;
}

void OpenCalls::Call::PeerAnswered() {
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_.at(token_).deadline = absl::InfiniteDuration();
}

void OpenCalls::Call::Moved(uint64_t payload_bytes) {
  Advanced(payload_bytes);
  if (bucket_ == nullptr) return;
  const absl::Duration start = MonotonicNow();
  const absl::Duration until = start + bucket_->Charge(payload_bytes, start);
  for (absl::Duration now = start; now < until && !context_->IsCancelled(); now = MonotonicNow()) {
    held_back_.store(true, std::memory_order_relaxed);
    absl::SleepFor(std::min(until - now, kLongestNap));
  }
}

absl::Status OpenCalls::Call::EndStatus() const {
  absl::MutexLock lock(&calls_.mutex_);
  const absl::Status& cut = calls_.open_.at(token_).cut;
  if (!cut.ok()) return cut;
  return absl::CancelledError("the other side cancelled the call, or its connection was lost");
}

bool OpenCalls::PeerIsFull(const std::string& peer) const {
  const auto count = of_peer_.find(peer);
  return count != of_peer_.end() && count->second >= bounds_.most_per_peer;
}

absl::Status OpenCalls::CheckPlace(const std::string& peer) const {
  if (open_.size() >= static_cast<size_t>(bounds_.most)) {
    return absl::ResourceExhaustedError(absl::StrCat("this server serves ", bounds_.most,
                                                     " streams at a time and all are taken; try again "
                                                     "later, or raise --max-threads"));
  }
  if (!PeerIsFull(peer)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("this server serves ", bounds_.most_per_peer, " streams of one peer at a time and ", peer,
                   " has as many; end some first, use fewer connections or streams, or raise --max-peer-streams"));
}

absl::Status OpenCalls::CheckKind(Kind kind) const {
  const int most = std::max(1, bounds_.most / 2);
  if (kind != Kind::kLasting || lasting_ < most) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("this server serves ", most,
                   " watches and leases (WatchModel, ExportTarget, RegisterTargets) at a time and all are taken; end "
                   "some first, or raise --max-threads"));
}

bool OpenCalls::CutSlowest(const std::string& for_peer) {
  const bool of_that_peer = PeerIsFull(for_peer);
  State* slowest = nullptr;
  double least = static_cast<double>(bounds_.least_bytes_per_second);
  for (auto& [token, state] : open_) {
    if (state.kind != Kind::kTransfer || !state.cut.ok() || (of_that_peer && state.peer != for_peer)) continue;
    const absl::optional<double> rate = state.rate.BytesPerSecond();
    if (!rate.has_value() || *rate >= least) continue;
    least = *rate;
    slowest = &state;
  }
  if (slowest == nullptr) return false;
  slowest->cut = absl::UnavailableError(
      absl::StrCat(slowest->method, ": another stream needed its place, and it moved ", static_cast<uint64_t>(least),
                   " bytes a second lately, where ", bounds_.least_bytes_per_second,
                   " are the least (--least-kib-per-second); try again when there is more to move"));
  CutCall(slowest->context, slowest->cut);
  return true;
}

absl::Status OpenCalls::AwaitPlace(const std::string& peer) {
  absl::Status place = CheckPlace(peer);
  for (int attempt = 0; attempt < kPlaceAttempts && !place.ok() && CutSlowest(peer); ++attempt) {
    const auto free = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return CheckPlace(peer).ok(); };
    left_.AwaitFor(mutex_, kPlacePatience, free);
    place = CheckPlace(peer);
  }
  return place;
}

absl::StatusOr<std::unique_ptr<OpenCalls::Call>> OpenCalls::Enter(grpc::ServerContext* context,
                                                                  absl::string_view method, Kind kind) {
  std::string peer = PeerOf(context->peer());
  absl::MutexLock lock(&mutex_);
  // Before anything is cut, and after the wait, in which others may have come.
  absl::Status place = CheckKind(kind);
  if (place.ok()) place = AwaitPlace(peer);
  if (place.ok()) place = CheckKind(kind);
  if (!place.ok()) return place;
  ++of_peer_[peer];
  if (kind == Kind::kLasting) ++lasting_;
  const uint64_t token = next_token_++;
  const absl::Duration now = MonotonicNow();
  std::unique_ptr<Call> call(new Call(*this, token, context, rates_.BucketOf(peer, now)));
  State state(RecentRate(bounds_.patience, now));
  state.context = context;
  state.method = std::string(method);
  state.peer = std::move(peer);
  state.kind = kind;
  state.call = call.get();
  open_.emplace(token, std::move(state));
  return call;
}

void OpenCalls::Review() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  for (auto& [token, state] : open_) {
    const uint64_t advanced = state.call->advanced_.load(std::memory_order_relaxed);
    if (state.call->held_back_.exchange(false, std::memory_order_relaxed)) {
      state.rate = RecentRate(bounds_.patience, now, advanced);
    } else {
      state.rate.Sample(now, advanced);
    }
    if (state.deadline > now || !state.cut.ok()) continue;
    state.cut = absl::DeadlineExceededError(absl::StrCat(state.method, ": the other side was waited for for ",
                                                         absl::FormatDuration(bounds_.patience),
                                                         " and neither sent nor took a message"));
    CutCall(state.context, state.cut);
  }
}

}  // namespace weightstream
