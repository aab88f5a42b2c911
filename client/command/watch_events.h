// What changed between two states of a server's models, as events to print.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_WATCH_EVENTS_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_WATCH_EVENTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/command/json_output.h"
#include "client/command/rate_meter.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream::command {

struct WatchEvent {
  absl::Time time;
  std::string server{};
  // Empty where the event is about the server: "unreachable", "reachable".
  std::string model{};
  // "current" (this version is the current one now; 0 is none), an update's state ("receiving", "committing",
  // "committed", "aborted"); or "unreachable", and "reachable" after that, and of a server that has no models.
  std::string state{};
  uint64_t version = 0;
  uint64_t landed_bytes = 0;
  uint64_t total_bytes = 0;
  double bytes_per_second = 0;
  std::string reason{};
};

Json WatchEventJson(const WatchEvent& event);

// One line with its line feed; the server is shown if `with_server`.
std::string WatchEventText(const WatchEvent& event, bool with_server);
// The same for who looks on: the time of the day, in their own time zone, and no date.
std::string WatchEventBrief(const WatchEvent& event, bool with_server);

// Remembers what a server's models were like. Not thread-safe. Times must not go back.
class WatchedServer {
 public:
  explicit WatchedServer(std::string server) : server_(std::move(server)) {}

  // The events that lead from the last state of the model called `name` to this one. At first sight: what is current
  // and what is in flight, but not what ended before.
  std::vector<WatchEvent> Take(const std::string& name, const v1::Model& model, absl::Time now);

 private:
  struct Update {
    v1::UpdateInfo last;
    RateMeter meter;
  };
  struct Seen {
    uint64_t current_version = 0;
    // By update id.
    std::map<std::string, Update> updates;
  };

  WatchEvent UpdateEvent(const std::string& name, const v1::UpdateInfo& update, absl::Time now) const;

  const std::string server_;
  std::map<std::string, Seen> models_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_WATCH_EVENTS_H_
