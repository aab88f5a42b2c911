#include "client/push_round.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/channel.h"
#include "client/failure_rules.h"
#include "client/push_stream.h"
#include "client/start_thread.h"

namespace weightstream {
namespace {

// Collects how streams end. Thread-safe. Its lock is taken before the signal's.
class StreamVerdicts {
 public:
  explicit StreamVerdicts(StopSignal& round_stop) : round_stop_(round_stop) {}

  // Of a stream that had nothing to send there is nothing to learn.
  void Add(const absl::StatusOr<absl::optional<uint64_t>>& end) {
    absl::MutexLock lock(&mutex_);
    if (end.ok()) {
      if (end->has_value()) least_missing_ = std::min(least_missing_, **end);
      return;
    }
    // A stopped stream's error is an effect of the stop.
    if (round_stop_.stopped()) return;
    if (first_failure_.ok()) first_failure_ = end.status();
    if (RemedyFor(CallKind::kPush, end.status()) == Remedy::kGiveUp) {
      give_up_ = true;
      round_stop_.Stop(end.status());
    }
  }

  RoundResult Result() {
    absl::MutexLock lock(&mutex_);
    RoundResult result;
    if (round_stop_.stopped()) {
      result.cause = round_stop_.cause();
      result.give_up = give_up_;
      return result;
    }
    // The last stream to end has seen what all of them brought.
    result.complete = least_missing_ == 0;
    if (result.complete) return result;
    result.cause = !first_failure_.ok() ? first_failure_
                                        : absl::InternalError(absl::StrCat("everything was sent and accepted, yet ",
                                                                           least_missing_, " bytes are missing"));
    return result;
  }

 private:
  StopSignal& round_stop_;
  absl::Mutex mutex_;
  uint64_t least_missing_ ABSL_GUARDED_BY(mutex_) = std::numeric_limits<uint64_t>::max();
  absl::Status first_failure_ ABSL_GUARDED_BY(mutex_);
  bool give_up_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

RoundResult RunPushRound(const PushContext& context, const std::string& address, const std::string& update_id,
                         const std::string& traceparent, ChunkPlan& plan, const Pace& pace, StopSignal& stop,
                         StallWatch& watch, TransferCounters& counters) {
  StopSignal round_stop;
  const StopSignal::Listener from_outside(stop, [&](const absl::Status& cause) { round_stop.Stop(cause); });
  const StallWatch::Guard guard(watch, round_stop, context.options.limits.stall);
  StreamVerdicts verdicts(round_stop);
  const PushStreamTask task{context, update_id, traceparent, plan, round_stop, watch, counters};

  // Each connects with its first call: one that was started ahead, without a call whose thread polls it, was seen to
  // take more than a second.
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < pace.connections; ++i) {
    channels.push_back(NewChannel(address, context.options.limits, i, context.credentials));
  }
  const uint64_t most = channels.size() * static_cast<uint64_t>(pace.streams_per_connection);
  const size_t streams = std::clamp<uint64_t>(plan.total_chunks(), 1, most);
  const auto run = [&](size_t index) { verdicts.Add(RunPushStream(*channels[index % channels.size()], task)); };
  std::vector<std::thread> others;
  for (size_t i = 1; i < streams; ++i) {
    std::thread other;
    // Where no more threads are to be had, the streams that there are take what this one would have sent.
    if (!StartThread(other, [&run, i] { run(i); }).ok()) break;
    others.push_back(std::move(other));
  }
  run(0);
  for (std::thread& other : others) other.join();
  RoundResult result = verdicts.Result();
  result.stalled = round_stop.stopped() && !result.give_up && !stop.stopped();
  return result;
}

}  // namespace weightstream
