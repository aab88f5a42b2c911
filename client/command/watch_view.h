// What `weightstream watch` shows on a terminal: a line for each model of each server as it is now, and how many are
// how far.
//
//   3 servers: 1 receiving, 1 current, 1 unreachable
//   10.0.0.5:7070  receiving 13    36.7 %  [====>        ]  5.1/14.0 GiB  1.23 GB/s  7.7s left
//   10.0.0.6:7070  current 13
//   10.0.0.7:7070  unreachable
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_WATCH_VIEW_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_WATCH_VIEW_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/command/progress_line.h"
#include "client/command/rate_meter.h"
#include "client/command/watch_events.h"

namespace weightstream::command {

// Pure but for what it remembers. Not thread-safe. Times must not go back.
class WatchView {
 public:
  // `model` is the only one that is watched, or empty for all.
  WatchView(const std::vector<std::string>& servers, std::string model);

  // Takes in an event of WatchRun. True if it is worth a line that stays: an update that begins, a version that becomes
  // current, an update that ends otherwise, a server that goes or comes back. Progress shows in Lines only, and so does
  // what was there already when the watch began.
  bool Take(const WatchEvent& event);

  // For a terminal of this size: none as long as it is wide, and fewer than it is high. What does not fit is counted;
  // updates in flight come first, then servers out of reach.
  std::vector<std::string> Lines(size_t columns, size_t rows, absl::Time now) const;

 private:
  struct Model {
    bool seen_current = false;
    uint64_t current = 0;
    // The update in flight, or that ended without becoming current; 0 if there is none.
    uint64_t version = 0;
    // "receiving", "committing", "aborted".
    std::string state{};
    uint64_t landed_bytes = 0;
    uint64_t total_bytes = 0;
    RateMeter meter{};
  };
  struct Server {
    std::string name;
    std::string short_name;
    bool reached = false;
    bool unreachable = false;
    std::map<std::string, Model> models{};
  };
  struct Row {
    ProgressLine line;
    // What it counts as: "receiving", "current", ...
    std::string kind;
  };

  Row RowOf(const Server& server) const;
  Row RowOf(const Server& server, const std::string& name, const Model& model, absl::Time now) const;
  std::vector<Row> Rows(absl::Time now) const;
  std::string Summary(const std::vector<Row>& rows, size_t columns) const;

  const std::string model_;
  // In the order in which they were given.
  std::vector<Server> servers_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_WATCH_VIEW_H_
