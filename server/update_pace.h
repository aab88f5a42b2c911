// Whether the updates of a model get anywhere, or only hold the room that others need.
#ifndef WEIGHTSTREAM_SERVER_UPDATE_PACE_H_
#define WEIGHTSTREAM_SERVER_UPDATE_PACE_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/limits.h"
#include "server/recent_rate.h"

namespace weightstream {

// Counts bytes that were missing and have landed: what is sent twice is no progress. Updates that take each other's
// place without a commit count as one, and so do those that begin soon after another was aborted; else whoever begins
// anew in time would never be slow. All times are those of a monotonic clock. Not thread-safe.
class UpdatePace {
 public:
  // `limits` outlives this.
  explicit UpdatePace(const Limits& limits) : limits_(limits) {}

  void Began(absl::Duration now);
  // So many bytes of the update in flight have landed. To be called about once a second.
  void Sample(absl::Duration now, uint64_t landed_bytes);
  // The same, and nothing that did not land until now counts.
  void Restart(absl::Duration now, uint64_t landed_bytes);
  void Ended(absl::Duration now, uint64_t landed_bytes, bool committed);

  // Why the update in flight, which lacks so many bytes, is too slow to keep others out: longer under way than
  // limits.update_time, or less than the least rate in the last span (limits.silent_call) though something is missing:
  // one that waits for its commit has nothing to send. None if it is not. Requires one in flight.
  absl::optional<std::string> WhyTooSlow(absl::Duration now, uint64_t missing_bytes) const;

 private:
  const Limits& limits_;
  // Of the first of the updates that count as one; none before any.
  absl::optional<RecentRate> rate_;
  absl::Duration began_;
  absl::Duration ended_ = -absl::InfiniteDuration();
  // Of those that have ended.
  uint64_t landed_before_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_UPDATE_PACE_H_
