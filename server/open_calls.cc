#include "server/open_calls.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <limits>
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

// Each that waits has a thread, beyond those of the streams.
constexpr int kMostWaiting = 8;

}  // namespace

void CutCall(grpc::ServerContext* context, const absl::Status& reason) {
  const grpc::Status status = ToGrpcStatus(reason);
  grpc_call_cancel_with_status(context->c_call(), static_cast<grpc_status_code>(status.error_code()),
                               status.error_message().c_str(), nullptr);
}

OpenCalls::Call::~Call() {
  absl::MutexLock lock(&calls_.mutex_);
  const auto state = calls_.open_.find(token_);
  const auto found = calls_.peers_.find(state->second.peer);
  Peer& peer = found->second;
  if (state->second.kind == Kind::kLasting) {
    --calls_.lasting_;
    --peer.lasting;
  } else if (--peer.transfers == 0) {
    peer.rate.reset();
    peer.advanced_before = 0;
  } else {
    peer.advanced_before += advanced_.load(std::memory_order_relaxed);
  }
  if (--peer.calls == 0) calls_.peers_.erase(found);
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

bool OpenCalls::Call::Moved(uint64_t payload_bytes) {
  Advanced(payload_bytes);
  if (bucket_ == nullptr) return false;
  const absl::Duration start = MonotonicNow();
  const absl::Duration until = start + bucket_->Charge(payload_bytes, start);
  for (absl::Duration now = start; now < until && !context_->IsCancelled(); now = MonotonicNow()) {
    held_back_.store(true, std::memory_order_relaxed);
    absl::SleepFor(std::min(until - now, kLongestNap));
  }
  return until > start;
}

absl::Status OpenCalls::Call::EndStatus() const {
  absl::MutexLock lock(&calls_.mutex_);
  const absl::Status& cut = calls_.open_.at(token_).cut;
  if (!cut.ok()) return cut;
  return absl::CancelledError("the other side cancelled the call, or its connection was lost");
}

bool OpenCalls::PeerIsFull(const std::string& peer) const {
  const auto found = peers_.find(peer);
  return found != peers_.end() && found->second.calls >= bounds_.most_per_peer;
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

absl::Status OpenCalls::CheckKind(const std::string& peer, Kind kind) const {
  if (kind != Kind::kLasting) return absl::OkStatus();
  const int most = std::max(1, bounds_.most / 2);
  const int of_a_peer = std::max(1, most * 5 / 6);
  const auto found = peers_.find(peer);
  const bool full = lasting_ >= most;
  if (!full && (found == peers_.end() || found->second.lasting < of_a_peer)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("this server serves ", full ? "" : "one peer ", full ? most : of_a_peer,
                   " watches and leases (WatchModel, ExportTarget, RegisterTargets) at a time and all are taken; end "
                   "some first, or raise --max-threads"));
}

absl::optional<double> OpenCalls::SlowRate(const Peer& peer) const {
  const absl::optional<double> rate = peer.rate.has_value() ? peer.rate->BytesPerSecond() : absl::nullopt;
  const auto fours = static_cast<uint64_t>((peer.transfers + 3) / 4);
  if (!rate.has_value() || *rate >= static_cast<double>(bounds_.least_bytes_per_second * fours)) return absl::nullopt;
  return rate;
}

bool OpenCalls::CutSlowest(const std::string& for_peer) {
  const bool of_that_peer = PeerIsFull(for_peer);
  State* slowest = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (auto& [token, state] : open_) {
    if (state.kind != Kind::kTransfer || !state.cut.ok() || (of_that_peer && state.peer != for_peer)) continue;
    if (!SlowRate(peers_.at(state.peer)).has_value()) continue;
    // One that is new comes last, and may not be new at all: its peer is slow.
    const double rate = state.rate.BytesPerSecond().value_or(std::numeric_limits<double>::max());
    if (rate >= least) continue;
    least = rate;
    slowest = &state;
  }
  if (slowest == nullptr) return false;
  const Peer& peer = peers_.at(slowest->peer);
  slowest->cut = absl::UnavailableError(absl::StrCat(
      slowest->method, ": another stream needed its place, and all ", peer.transfers, " of ", slowest->peer, " moved ",
      static_cast<uint64_t>(*SlowRate(peer)), " bytes a second lately, where ", bounds_.least_bytes_per_second,
      " for each four are the least (--least-kib-per-second); try again when there is more to move"));
  CutCall(slowest->context, slowest->cut);
  return true;
}

absl::Status OpenCalls::AwaitPlace(const std::string& peer) {
  absl::Status place = CheckPlace(peer);
  for (int attempt = 0; attempt < kPlaceAttempts && !place.ok() && waiting_ < kMostWaiting && CutSlowest(peer);
       ++attempt) {
    const auto free = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return CheckPlace(peer).ok(); };
    ++waiting_;
    left_.AwaitFor(mutex_, kPlacePatience, free);
    --waiting_;
    place = CheckPlace(peer);
  }
  return place;
}

absl::StatusOr<std::unique_ptr<OpenCalls::Call>> OpenCalls::Enter(grpc::ServerContext* context,
                                                                  absl::string_view method, Kind kind) {
  std::string peer_name = PeerOf(context->peer());
  absl::MutexLock lock(&mutex_);
  // Before anything is cut, and after the wait, in which others may have come.
  absl::Status place = CheckKind(peer_name, kind);
  if (place.ok()) place = AwaitPlace(peer_name);
  if (place.ok()) place = CheckKind(peer_name, kind);
  if (!place.ok()) return place;
  const absl::Duration now = MonotonicNow();
  Peer& peer = peers_[peer_name];
  ++peer.calls;
  if (kind == Kind::kLasting) {
    ++lasting_;
    ++peer.lasting;
  } else if (++peer.transfers == 1) {
    peer.rate.emplace(bounds_.patience, now);
  }
  const uint64_t token = next_token_++;
  std::unique_ptr<Call> call(new Call(*this, token, context, rates_.BucketOf(peer_name, now)));
  State state(RecentRate(bounds_.patience, now));
  state.context = context;
  state.method = std::string(method);
  state.peer = std::move(peer_name);
  state.kind = kind;
  state.call = call.get();
  open_.emplace(token, std::move(state));
  return call;
}

void OpenCalls::Review() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  ReviewRates(now);
  for (auto& [token, state] : open_) {
    if (state.deadline > now || !state.cut.ok()) continue;
    state.cut = absl::DeadlineExceededError(absl::StrCat(state.method, ": the other side was waited for for ",
                                                         absl::FormatDuration(bounds_.patience),
                                                         " and neither sent nor took a message"));
    CutCall(state.context, state.cut);
  }
}

void OpenCalls::ReviewRates(absl::Duration now) {
  struct Sum {
    uint64_t advanced = 0;
    bool held_back = false;
  };
  std::map<std::string, Sum> sums;
  for (auto& [token, state] : open_) {
    if (state.kind != Kind::kTransfer) continue;
    const uint64_t advanced = state.call->advanced_.load(std::memory_order_relaxed);
    state.rate.Sample(now, advanced);
    Sum& sum = sums[state.peer];
    sum.advanced += advanced;
    if (state.call->held_back_.exchange(false, std::memory_order_relaxed)) sum.held_back = true;
  }
  for (const auto& [name, sum] : sums) {
    Peer& peer = peers_.at(name);
    const uint64_t total = peer.advanced_before + sum.advanced;
    if (sum.held_back) {
      peer.rate.emplace(bounds_.patience, now, total);
    } else {
      peer.rate->Sample(now, total);
    }
  }
}

}  // namespace weightstream
