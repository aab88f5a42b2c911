// Bytes a second: of something that ended, and of a growing number over the last seconds.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_RATE_METER_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_RATE_METER_H_

#include <cstdint>
#include <deque>

#include "absl/time/time.h"

namespace weightstream::command {

// 0 where it took no time.
double BytesPerSecond(uint64_t bytes, absl::Duration time);

// Not thread-safe. Times must not go back.
class RateMeter {
 public:
  // `bytes` is the total so far. One that falls (a lost connection makes bytes go again) starts the measuring over.
  void Add(absl::Time now, uint64_t bytes);

  // Over the last five seconds, or since the first sample where that is later; 0 with less than two samples' worth.
  double BytesPerSecond(absl::Time now) const;

 private:
  struct Sample {
    absl::Time time;
    uint64_t bytes;
  };
  std::deque<Sample> samples_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_RATE_METER_H_
