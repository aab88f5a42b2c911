// How fast a total has grown lately: the bytes of a stream, or of an update.
#ifndef WEIGHTSTREAM_SERVER_RECENT_RATE_H_
#define WEIGHTSTREAM_SERVER_RECENT_RATE_H_

#include <cstdint>

#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace weightstream {

// Looks back over `span` to twice `span`, for which it keeps two marks, not a list of samples. All times are those of a
// monotonic clock. Not thread-safe.
class RecentRate {
 public:
  RecentRate(absl::Duration span, absl::Duration now, uint64_t total = 0)
      : span_(span), older_{now, total}, newer_{now, total}, last_{now, total} {}

  // The total is so much now; it never falls. To be called about once a second. After a pause of five, in which this
  // process may have been stopped, all starts over: what did not come then proves nothing.
  void Sample(absl::Duration now, uint64_t total);

  // As of the last sample; none before there are samples over a whole span.
  absl::optional<double> BytesPerSecond() const;

 private:
  struct Mark {
    absl::Duration time;
    uint64_t total;
  };

  absl::Duration span_;
  // Where the rate is taken from, and where it will be once that is two spans ago.
  Mark older_;
  Mark newer_;
  Mark last_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_RECENT_RATE_H_
