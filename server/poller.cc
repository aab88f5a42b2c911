#include "server/poller.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// Between two looks while streams are busy: what a new call then waits for. A look at a few connections takes some
// microseconds; with thousands it takes longer, and then as large a part of the time as this factor leaves it.
constexpr absl::Duration kLeastPause = absl::Milliseconds(1);
constexpr absl::Duration kMostPause = absl::Milliseconds(20);
constexpr int kPauseFactor = 10;

// Streams that have not moved for so many looks are idle, or their network is slow enough for everything to be read by
// this thread.
constexpr int kIdleLooks = 20;

}  // namespace

void Poller::Start(std::unique_ptr<grpc::ServerCompletionQueue> queue) {
  queue_ = std::move(queue);
  thread_ = std::thread([this] { Run(); });
}

void Poller::Stop() {
  if (!thread_.joinable()) return;
  queue_->Shutdown();
  thread_.join();
}

void Poller::Wake() { wake_.Set(queue_.get(), gpr_inf_past(GPR_CLOCK_MONOTONIC), &woken_); }

grpc::CompletionQueue::NextStatus Poller::Next(void** tag, bool* ok) {
  const gpr_timespec at_once = gpr_inf_past(GPR_CLOCK_MONOTONIC);
  if (!streams_idle_) return queue_->AsyncNext(tag, ok, at_once);
  if (!wake_pending_) waits_.store(true);
  // A stream that moved before it could see that somebody waits does not wake anybody.
  const auto status = queue_->AsyncNext(tag, ok, moved_.load() ? at_once : gpr_inf_future(GPR_CLOCK_MONOTONIC));
  if (!wake_pending_) wake_pending_ = !waits_.exchange(false);
  return status;
}

void Poller::Run() {
  while (true) {
    const absl::Duration begin = MonotonicNow();
    void* tag = nullptr;
    bool ok = false;
    const auto status = Next(&tag, &ok);
    if (status == grpc::CompletionQueue::SHUTDOWN) return;
    if (status == grpc::CompletionQueue::GOT_EVENT) {
      (*static_cast<Event*>(tag))(ok);
      continue;
    }
    looks_in_vain_ = moved_.exchange(false) ? 0 : looks_in_vain_ + 1;
    streams_idle_ = looks_in_vain_ >= kIdleLooks;
    if (!streams_idle_) absl::SleepFor(std::clamp(kPauseFactor * (MonotonicNow() - begin), kLeastPause, kMostPause));
  }
}

}  // namespace weightstream
