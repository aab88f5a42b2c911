#include "server/open_calls.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/status.h"
#include "server/peer.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// How soon a call that is held back notices that it is over.
constexpr absl::Duration kLongestNap = absl::Milliseconds(50);

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
  calls_.open_.erase(state);
}

void OpenCalls::Call::AwaitPeer() {
  const absl::Duration deadline = MonotonicNow() + calls_.bounds_.patience;
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_[token_].deadline = deadline;
}

void OpenCalls::Call::PeerAnswered() {
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_[token_].deadline = absl::InfiniteDuration();
}

void OpenCalls::Call::Moved(uint64_t payload_bytes) {
  if (bucket_ == nullptr) return;
  const absl::Duration start = MonotonicNow();
  const absl::Duration until = start + bucket_->Charge(payload_bytes, start);
  for (absl::Duration now = start; now < until && !context_->IsCancelled(); now = MonotonicNow()) {
    absl::SleepFor(std::min(until - now, kLongestNap));
  }
}

absl::Status OpenCalls::Call::EndStatus() const {
  absl::MutexLock lock(&calls_.mutex_);
  const absl::Status& cut = calls_.open_[token_].cut;
  if (!cut.ok()) return cut;
  return absl::CancelledError("the other side cancelled the call, or its connection was lost");
}

absl::StatusOr<std::unique_ptr<OpenCalls::Call>> OpenCalls::Enter(grpc::ServerContext* context,
                                                                  absl::string_view method) {
  std::string peer = PeerOf(context->peer());
  absl::MutexLock lock(&mutex_);
  if (open_.size() >= static_cast<size_t>(bounds_.most)) {
    return absl::ResourceExhaustedError(absl::StrCat("this server serves ", bounds_.most,
                                                     " streams at a time and all are taken; try again "
                                                     "later, or raise --max-threads"));
  }
  int& of_peer = of_peer_[peer];
  if (of_peer >= bounds_.most_per_peer) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this server serves ", bounds_.most_per_peer, " streams of one peer at a time and ", peer,
                     " has as many; end some first, use fewer connections or streams, or raise --max-peer-streams"));
  }
  ++of_peer;
  const uint64_t token = next_token_++;
  State& state = open_[token];
  state.context = context;
  state.method = std::string(method);
  std::shared_ptr<PeerRates::Bucket> bucket = rates_.BucketOf(peer, MonotonicNow());
  state.peer = std::move(peer);
  return std::unique_ptr<Call>(new Call(*this, token, context, std::move(bucket)));
}

void OpenCalls::CutSilent() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  for (auto& [token, state] : open_) {
    if (state.deadline > now || !state.cut.ok()) continue;
    state.cut = absl::DeadlineExceededError(absl::StrCat(state.method, ": the other side was waited for for ",
                                                         absl::FormatDuration(bounds_.patience),
                                                         " and neither sent nor took a message"));
    CutCall(state.context, state.cut);
  }
}

}  // namespace weightstream
