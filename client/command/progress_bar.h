// What long work shows while it runs, as text: bars for a terminal, lines for a log. Knows nothing of files or clocks.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_BAR_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_BAR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/command/rate_meter.h"

namespace weightstream::command {

// With more servers than this, one summary line stands for all.
inline constexpr size_t kMostServerLines = 8;

// How far one server is.
struct TransferState {
  enum class End { kNot, kDone, kFailed };

  // "connecting", "sending", ...
  std::string phase{};
  // 0 while it is not known.
  uint64_t version = 0;
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  // Of done_bytes: what was there before.
  uint64_t resumed_bytes = 0;
  int retries = 0;
  End end = End::kNot;
};

// The progress of a fixed list of servers. Not thread-safe. Times must not go back.
class ProgressBar {
 public:
  explicit ProgressBar(std::vector<std::string> servers);

  // What an update makes worth saying, each at most once. `phases` are of use in a log only: a bar shows the phase
  // anyway.
  struct News {
    std::vector<std::string> notices;
    std::vector<std::string> phases;
  };

  // A server that is not in the list is ignored.
  News Update(absl::string_view server, const TransferState& state, absl::Time now);

  // For a terminal of `width` columns: no line is longer than width - 1, so that none wraps.
  std::vector<std::string> Bars(size_t width, absl::Time now) const;

  // For a log.
  std::vector<std::string> Lines(absl::Time now) const;

 private:
  struct Server {
    std::string name;
    TransferState state{};
    RateMeter meter{};
    bool seen = false;
  };

  // All servers as one.
  struct Sum {
    // "9 servers: 1 done, 8 sending", and where that finds no room "9 servers, 1 done".
    std::string counts;
    std::string brief_counts;
    uint64_t done_bytes = 0;
    uint64_t total_bytes = 0;
    double rate = 0;
  };

  Server* Find(absl::string_view name);
  Sum Summarize(absl::Time now) const;

  std::vector<Server> servers_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_BAR_H_
