// Keeps strangers from filling the log: lines that anybody who reaches the server can cause, as often as they like.
#ifndef WEIGHTSTREAM_SERVER_LOG_BRAKE_H_
#define WEIGHTSTREAM_SERVER_LOG_BRAKE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

// For one kind of line: one of each peer in ten seconds, with how many there would have been; of more than 64 peers,
// the later ones are taken together. So it is seven lines a second at most, whoever does what. Thread-safe.
class LogBrake {
 public:
  // As often as an operator who looks on wants to see that it goes on.
  static constexpr absl::Duration kEvery = absl::Seconds(10);
  static constexpr size_t kMostPeers = 64;

  // To be called each time. How many times it was for this peer (PeerOf) since its last line, this one included, where
  // a line is due; 0 where none is.
  uint64_t Count(const std::string& peer, absl::Duration now = MonotonicNow()) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Told {
    absl::Duration last = -absl::InfiniteDuration();
    uint64_t untold = 0;
  };

  // The peer's, or the one of all for whom there is no place.
  Told& PlaceOf(const std::string& peer, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::map<std::string, Told> told_ ABSL_GUARDED_BY(mutex_);
  Told others_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LOG_BRAKE_H_
