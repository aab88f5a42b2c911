#include "client/command/watch_run.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tensor/monotonic_clock.h"

namespace weightstream::command {
namespace {

// As often as the service itself reports progress.
constexpr absl::Duration kPollInterval = absl::Milliseconds(500);
constexpr absl::Duration kRetryInterval = absl::Seconds(1);
// How soon an interruption is noticed.
constexpr absl::Duration kLookInterval = absl::Milliseconds(50);

// What no amount of trying again changes.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    // A file of ours, such as a certificate, that is not sound.
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return true;
    default:
      return false;
  }
}

absl::Status WithServer(const std::string& server, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(server, ": ", status.message()));
}

}  // namespace

WatchRun::WatchRun(WatchOptions options, std::function<bool(const WatchEvent&)> print,
                   std::function<bool()> interrupted)
    : options_(std::move(options)), print_(std::move(print)), interrupted_(std::move(interrupted)) {}

absl::Status WatchRun::Run() {
  const absl::Duration deadline = MonotonicNow() + options_.timeout;
  std::vector<std::thread> threads;
  for (const std::string& server : options_.servers) threads.emplace_back([this, &server] { WatchServer(server); });
  while (!Ended()) {
    if (interrupted_()) {
      absl::MutexLock lock(&mutex_);
      EndLocked(InterruptedOutcome());
    } else if (MonotonicNow() >= deadline) {
      const absl::Status outcome = TimeoutOutcome();
      absl::MutexLock lock(&mutex_);
      EndLocked(outcome);
    } else {
      Pause(kLookInterval);
    }
  }
  for (std::thread& thread : threads) thread.join();
  absl::MutexLock lock(&mutex_);
  return outcome_;
}

void WatchRun::WatchServer(const std::string& server) {
  ModelService service(server, options_.limits, options_.security, [this] { return Ended(); });
  WatchedServer watched(server);
  Contact contact{.last = MonotonicNow()};
  while (!Ended()) {
    const absl::Duration before = contact.last;
    const absl::Status status = Follow(service, watched, contact);
    if (Ended()) return;
    // A watch that was silent for an hour was no outage: that begins when the stream breaks.
    if (contact.last != before) contact.last = MonotonicNow();
    const bool given_up = IsFinal(status) || MonotonicNow() - contact.last >= options_.limits.connect;
    // Once an outage, and at its end.
    if (given_up || !contact.told_out) Unreachable(server, status, given_up);
    contact.told_out = true;
    if (given_up) return;
    Pause(kRetryInterval);
  }
}

absl::Status WatchRun::Follow(ModelService& service, WatchedServer& watched, Contact& contact) {
  if (!options_.model.empty()) {
    return service.Watch(options_.model, [&](const v1::Model& model) {
      Reached(service.server(), 1, contact);
      Take(watched, service.server(), options_.model, model);
      return !Ended();
    });
  }
  // One call a round, however many models there are: a stream for each would hold a thread of the server for each.
  while (true) {
    const absl::StatusOr<v1::ListModelsResponse> answer = service.List();
    if (!answer.ok()) return answer.status();
    Reached(service.server(), static_cast<size_t>(answer->models_size()), contact);
    for (const v1::Model& model : answer->models()) Take(watched, service.server(), model.name(), model);
    if (Ended()) return absl::OkStatus();
    Pause(kPollInterval);
  }
}

void WatchRun::Reached(const std::string& server, size_t models, Contact& contact) {
  contact.last = MonotonicNow();
  // Otherwise its models say that it is there.
  const bool news = contact.told_out || (!contact.met && models == 0);
  contact.met = true;
  contact.told_out = false;
  if (!news) return;
  absl::MutexLock lock(&mutex_);
  PrintLocked({.time = absl::Now(),
               .server = server,
               .model = "",
               .state = "reachable",
               .reason = models == 0 ? "it holds no models" : ""});
}

void WatchRun::Take(WatchedServer& watched, const std::string& server, const std::string& name,
                    const v1::Model& model) {
  const std::vector<WatchEvent> events = watched.Take(name, model, absl::Now());
  absl::MutexLock lock(&mutex_);
  for (const WatchEvent& event : events) PrintLocked(event);
  if (options_.until_version == 0 || model.current_version() < options_.until_version) return;
  arrived_.insert(server);
  if (arrived_.size() == options_.servers.size()) EndLocked(absl::OkStatus());
}

void WatchRun::Unreachable(const std::string& server, const absl::Status& status, bool given_up) {
  absl::MutexLock lock(&mutex_);
  PrintLocked({.time = absl::Now(),
               .server = server,
               .model = "",
               .state = "unreachable",
               .reason = absl::StrCat(given_up ? "given up: " : "trying again: ", status.message())});
  if (!given_up) return;
  ++given_up_;
  const bool hopeless = options_.until_version != 0 && arrived_.count(server) == 0;
  if (hopeless || given_up_ == options_.servers.size()) EndLocked(WithServer(server, status));
}

void WatchRun::PrintLocked(const WatchEvent& event) {
  // Nothing follows the event that ended the watch.
  if (ended_) return;
  if (!print_(event)) EndLocked(absl::UnavailableError("the output was closed"));
}

void WatchRun::EndLocked(const absl::Status& outcome) {
  if (ended_) return;
  ended_ = true;
  changed_.SignalAll();
  outcome_ = outcome;
}

absl::Status WatchRun::InterruptedOutcome() const {
  if (options_.until_version == 0) return absl::OkStatus();
  return absl::CancelledError(absl::StrCat("interrupted before version ", options_.until_version, " was current"));
}

absl::Status WatchRun::TimeoutOutcome() {
  const std::string after = absl::StrCat("after ", absl::ToInt64Seconds(options_.timeout), " seconds");
  if (options_.until_version == 0) return absl::DeadlineExceededError(absl::StrCat("the watch ended ", after));
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> waiting;
  for (const std::string& server : options_.servers) {
    if (arrived_.count(server) == 0) waiting.push_back(server);
  }
  return absl::DeadlineExceededError(absl::StrCat("version ", options_.until_version, " of ", options_.model,
                                                  " was not current ", after, " on ", absl::StrJoin(waiting, ", ")));
}

bool WatchRun::Ended() {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

void WatchRun::Pause(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  changed_.AwaitFor(mutex_, duration, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; });
}

}  // namespace weightstream::command
