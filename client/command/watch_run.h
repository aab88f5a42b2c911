// Follows several servers at once until something ends it: the engine of `weightstream watch`.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_WATCH_RUN_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_WATCH_RUN_H_

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/command/model_service.h"
#include "client/command/watch_events.h"
#include "client/connection.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream::command {

struct WatchOptions {
  std::vector<std::string> servers{};
  // Empty is every model, also those that come later.
  std::string model{};
  // Not 0: the watch ends once this version, or a higher one, is current on every server. Requires a model.
  uint64_t until_version = 0;
  absl::Duration timeout = absl::InfiniteDuration();
  // `connect` is how long a server may be out of reach, at first or later, before it is given up.
  TimeLimits limits{};
  Security security{};
};

class WatchRun {
 public:
  // `print` gets each event, one at a time, from any thread; false (it cannot be printed) ends the watch. `interrupted`
  // is asked several times a second.
  WatchRun(WatchOptions options, std::function<bool(const WatchEvent&)> print, std::function<bool()> interrupted);

  // Blocks. OK if until_version is current everywhere, or on an interruption where none was asked for; else why it
  // ended: CANCELLED, DEADLINE_EXCEEDED, or the error of a server that was given up, which ends the watch if a version
  // is waited for or if no server is left. To be called once.
  absl::Status Run() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // How it stands with one server.
  struct Contact {
    // The last sign of life; at first the moment from which one is waited for.
    absl::Duration last;
    // It has answered.
    bool met = false;
    // It was told that it is out of reach.
    bool told_out = false;
  };

  void WatchServer(const std::string& server);
  absl::Status Follow(ModelService& service, WatchedServer& watched, Contact& contact);
  // It answers; `models` says how many there are to be told of.
  void Reached(const std::string& server, size_t models, Contact& contact) ABSL_LOCKS_EXCLUDED(mutex_);
  void Take(WatchedServer& watched, const std::string& server, const std::string& name, const v1::Model& model)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Unreachable(const std::string& server, const absl::Status& status, bool given_up) ABSL_LOCKS_EXCLUDED(mutex_);
  void PrintLocked(const WatchEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status InterruptedOutcome() const;
  absl::Status TimeoutOutcome() ABSL_LOCKS_EXCLUDED(mutex_);
  bool Ended() ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns early if the watch ends.
  void Pause(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mutex_);

  const WatchOptions options_;
  const std::function<bool(const WatchEvent&)> print_;
  const std::function<bool()> interrupted_;

  // Held while an event is printed: events of several servers must not mix.
  absl::Mutex mutex_;
  MonotonicCondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status outcome_ ABSL_GUARDED_BY(mutex_);
  // Servers where until_version is current.
  std::set<std::string> arrived_ ABSL_GUARDED_BY(mutex_);
  size_t given_up_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_WATCH_RUN_H_
