#include "server/poller.h"

#include <grpc/support/time.h>
#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// Between two looks while streams are busy: what a new call then waits for. A look at a few connections takes some
// microseconds; with thousands it takes longer, and the pauses grow with it so that looking stays a small part.
constexpr absl::Duration kLeastPause = absl::Milliseconds(1);
constexpr absl::Duration kMostPause = absl::Milliseconds(5);
constexpr int kPauseFactor = 10;

// So many events in a row are as good a reason for a pause as there being none: who calls again as soon as it is
// answered must not keep the poller at the streams' connections.
constexpr int kMostEvents = 32;

// Streams that have not moved for so many looks are idle, or their network is slow enough for everything to be read by
// this thread.
constexpr int kStillLooks = 20;

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
  // For who looks at what the process spends its time on.
  pthread_setname_np(pthread_self(), "poller");
  while (true) {
    const absl::Duration begin = MonotonicNow();
    void* tag = nullptr;
    bool ok = false;
    const auto status = Next(&tag, &ok);
    if (status == grpc::CompletionQueue::SHUTDOWN) return;
    if (status == grpc::CompletionQueue::GOT_EVENT) {
      (*static_cast<Event*>(tag))(ok);
      if (streams_idle_ || ++events_ < kMostEvents) continue;
    }
    events_ = 0;
    still_looks_ = moved_.exchange(false) ? 0 : still_looks_ + 1;
    streams_idle_ = still_looks_ >= kStillLooks;
    absl::SleepFor(std::clamp(kPauseFactor * (MonotonicNow() - begin), kLeastPause, kMostPause));
  }
}

}  // namespace weightstream
