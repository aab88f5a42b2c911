#include "server/commit_hook_runner.h"

#include <algorithm>
#include <utility>

#include "absl/types/optional.h"
#include "server/log.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

void LogSuperseded(const CurrentVersionEvent& event, uint64_t by_version) {
  const LogTrace trace(event.trace);
  LogInfo("commit_hook_superseded", {{"model", event.model},
                                     {"version", event.version},
                                     {"update", LogValue::IfAny(event.update)},
                                     {"by_version", by_version}});
}

}  // namespace

CommitHookRunner::CommitHookRunner(const CommitHookOptions& options, std::unique_ptr<CommitHook> hook)
    : options_(options), hook_(std::move(hook)), random_(std::random_device()()) {
  thread_ = std::thread([this] { Run(); });
}

CommitHookRunner::~CommitHookRunner() { Stop(absl::ZeroDuration()); }

void CommitHookRunner::BecameCurrent(CurrentVersionEvent event) {
  absl::optional<CurrentVersionEvent> superseded;
  const uint64_t version = event.version;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_[event.model];
    // An attempt that is under way may yet tell it: then Ended settles it.
    const bool under_way = running_ == &entry && entry.record.attempts > 0;
    if (entry.record.version != 0 && entry.record.state == CommitHookState::kPending && !under_way) {
      ++entry.counts.superseded;
      superseded = std::move(entry.event);
    }
    entry.record = CommitHookRecord{version, CommitHookState::kPending, 0, "", absl::Now()};
    entry.due = MonotonicNow();
    entry.event = std::move(event);
    ++change_;
    changed_.SignalAll();
  }
  if (superseded.has_value()) LogSuperseded(*superseded, version);
}

absl::optional<CommitHookRecord> CommitHookRunner::Find(const std::string& model) const {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(model);
  if (found == entries_.end()) return absl::nullopt;
  return found->second.record;
}

CommitHookCounts CommitHookRunner::Counts(const std::string& model) const {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(model);
  return found == entries_.end() ? CommitHookCounts() : found->second.counts;
}

void CommitHookRunner::Stop(absl::Duration patience) {
  const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; };
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    ++change_;
    changed_.SignalAll();
    if (!changed_.AwaitFor(mutex_, patience, ended)) hook_->Cut();
    mutex_.Await(absl::Condition(&ended));
  }
  if (thread_.joinable()) thread_.join();
}

void CommitHookRunner::Run() {
  absl::MutexLock lock(&mutex_);
  while (true) {
    Entry* const next = Next();
    if (stopping_ && next == nullptr) break;
    if (stopping_ && next->record.attempts > 0) {
      GiveUp(*next, "not repeated, the server is shutting down");
    } else if (next != nullptr && next->due <= MonotonicNow()) {
      Attempt(*next);
    } else {
      const auto changed = [this, seen = change_]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return change_ != seen; };
      changed_.AwaitFor(mutex_, next == nullptr ? absl::InfiniteDuration() : next->due - MonotonicNow(), changed);
    }
  }
  ended_ = true;
  changed_.SignalAll();
}

CommitHookRunner::Entry* CommitHookRunner::Next() {
  Entry* next = nullptr;
  for (auto& [model, entry] : entries_) {
    if (entry.record.state != CommitHookState::kPending) continue;
    if (next == nullptr || entry.due < next->due) next = &entry;
  }
  return next;
}

void CommitHookRunner::Attempt(Entry& entry) {
  const CurrentVersionEvent event = entry.event;
  const int attempt = ++entry.record.attempts;
  running_ = &entry;
  mutex_.Unlock();
  const absl::StatusOr<std::string> answer = CallAndLog(event, attempt);
  mutex_.Lock();
  running_ = nullptr;
  if (!answer.ok()) ++entry.counts.failed_attempts;
  Ended(entry, event, attempt, answer);
}

absl::StatusOr<std::string> CommitHookRunner::CallAndLog(const CurrentVersionEvent& event, int attempt) {
  const LogTrace trace(event.trace);
  const absl::Duration start = MonotonicNow();
  absl::StatusOr<std::string> answer = hook_->Call(event);
  const double seconds = absl::ToDoubleSeconds(MonotonicNow() - start);
  if (answer.ok()) {
    LogInfo("commit_hook_succeeded", {{"model", event.model},
                                      {"version", event.version},
                                      {"update", LogValue::IfAny(event.update)},
                                      {"attempt", attempt},
                                      {"seconds", seconds},
                                      {"answer", *answer}});
  } else {
    LogWarning("commit_hook_failed", {{"model", event.model},
                                      {"version", event.version},
                                      {"update", LogValue::IfAny(event.update)},
                                      {"attempt", attempt},
                                      {"of", options_.attempts},
                                      {"seconds", seconds},
                                      {"error", answer.status().ToString()}});
  }
  return answer;
}

void CommitHookRunner::Ended(Entry& entry, const CurrentVersionEvent& event, int attempt,
                             const absl::StatusOr<std::string>& answer) {
  // Superseded while it was under way: the newer version's record is not touched. A version that became current again
  // meanwhile has no attempt yet.
  if (entry.record.version != event.version || entry.record.attempts != attempt) {
    ++(answer.ok() ? entry.counts.succeeded : entry.counts.superseded);
    const uint64_t by_version = entry.record.version;
    mutex_.Unlock();
    if (!answer.ok()) LogSuperseded(event, by_version);
    mutex_.Lock();
    return;
  }
  entry.record.time = absl::Now();
  if (answer.ok()) {
    entry.record.state = CommitHookState::kSucceeded;
    entry.record.message = *answer;
    ++entry.counts.succeeded;
    return;
  }
  entry.record.message = answer.status().ToString();
  if (attempt >= options_.attempts) {
    GiveUp(entry, "given up");
  } else {
    entry.due = MonotonicNow() + Wait(attempt);
  }
}

void CommitHookRunner::GiveUp(Entry& entry, absl::string_view why) {
  entry.record.state = CommitHookState::kFailed;
  ++entry.counts.failed;
  const CurrentVersionEvent event = entry.event;
  const CommitHookRecord record = entry.record;
  mutex_.Unlock();
  {
    const LogTrace trace(event.trace);
    LogError("commit_hook_given_up", {{"model", event.model},
                                      {"version", record.version},
                                      {"update", LogValue::IfAny(event.update)},
                                      {"attempts", record.attempts},
                                      {"reason", why},
                                      {"error", record.message}});
  }
  mutex_.Lock();
}

absl::Duration CommitHookRunner::Wait(int attempts) {
  absl::Duration wait = options_.first_wait;
  for (int i = 1; i < attempts && wait < options_.longest_wait; ++i) wait *= 2;
  return std::min(wait, options_.longest_wait) * std::uniform_real_distribution<double>(0.5, 1)(random_);
}

}  // namespace weightstream
