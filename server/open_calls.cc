#include "server/open_calls.h"

#include <grpc/grpc.h>

#include "absl/strings/str_cat.h"
#include "proto/status.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

void CutCall(grpc::ServerContext* context, const absl::Status& reason) {
  const grpc::Status status = ToGrpcStatus(reason);
  grpc_call_cancel_with_status(context->c_call(), static_cast<grpc_status_code>(status.error_code()),
                               status.error_message().c_str(), nullptr);
}

OpenCalls::Call::~Call() {
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_.erase(token_);
}

void OpenCalls::Call::AwaitPeer() {
  const absl::Duration deadline = MonotonicNow() + calls_.patience_;
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_[token_].deadline = deadline;
}

void OpenCalls::Call::PeerAnswered() {
  absl::MutexLock lock(&calls_.mutex_);
  calls_.open_[token_].deadline = absl::InfiniteDuration();
}

absl::Status OpenCalls::Call::EndStatus() const {
  absl::MutexLock lock(&calls_.mutex_);
  const absl::Status& cut = calls_.open_[token_].cut;
  if (!cut.ok()) return cut;
  return absl::CancelledError("the other side cancelled the call, or its connection was lost");
}

absl::StatusOr<std::unique_ptr<OpenCalls::Call>> OpenCalls::Enter(grpc::ServerContext* context,
                                                                  absl::string_view method) {
  absl::MutexLock lock(&mutex_);
  if (open_.size() >= static_cast<size_t>(most_)) {
    return absl::ResourceExhaustedError(absl::StrCat("this server serves ", most_,
                                                     " streams at a time and all are taken; try again "
                                                     "later, or raise --max-threads"));
  }
  const uint64_t token = next_token_++;
  State& state = open_[token];
  state.context = context;
  state.method = std::string(method);
  return std::unique_ptr<Call>(new Call(*this, token));
}

void OpenCalls::CutSilent() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  for (auto& [token, state] : open_) {
    if (state.deadline > now || !state.cut.ok()) continue;
    state.cut = absl::DeadlineExceededError(absl::StrCat(state.method, ": the other side was waited for for ",
                                                         absl::FormatDuration(patience_),
                                                         " and neither sent nor took a message"));
    CutCall(state.context, state.cut);
  }
}

}  // namespace weightstream
