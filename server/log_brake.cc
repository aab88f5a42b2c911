#include "server/log_brake.h"

#include <utility>

namespace weightstream {

LogBrake::Told& LogBrake::PlaceOf(const std::string& peer, absl::Duration now) {
  if (const auto found = told_.find(peer); found != told_.end()) return found->second;
  if (told_.size() >= kMostPeers) {
    for (auto it = told_.begin(); it != told_.end();) {
      if (now - it->second.last < kEvery) {
        ++it;
        continue;
      }
      // What was left out of its lines is told with the next of somebody else.
      others_.untold += it->second.untold;
      it = told_.erase(it);
    }
  }
  return told_.size() < kMostPeers ? told_[peer] : others_;
}

uint64_t LogBrake::Count(const std::string& peer, absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  Told& told = PlaceOf(peer, now);
  ++told.untold;
  if (now - told.last < kEvery) return 0;
  told.last = now;
  return std::exchange(told.untold, 0);
}

}  // namespace weightstream
