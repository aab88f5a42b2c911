// How fast each peer may move payload: its calls wait before they read or write on, and TCP holds the peer back.
//
// A bucket a peer, shared by its calls: bytes cost time, and a call that has spent more than the peer has saved (at
// most a second's worth) waits until it is paid. It waits on the thread that it has anyway, which its peer's share of
// streams bounds (OpenCalls): the calls of others go on.
#ifndef WEIGHTSTREAM_SERVER_PEER_RATES_H_
#define WEIGHTSTREAM_SERVER_PEER_RATES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightstream {

// Thread-safe.
class PeerRates {
 public:
  // 0 is no limit.
  explicit PeerRates(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  class Bucket {
   public:
    explicit Bucket(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

    // Takes the bytes out, at this time of a monotonic clock. Returns how long the caller has to wait now; zero or less
    // is not at all.
    absl::Duration Charge(uint64_t bytes, absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);

    // Whether all is saved that can be: then a new bucket is as good.
    bool IsFull(absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);

   private:
    const uint64_t bytes_per_second_;
    absl::Mutex mutex_;
    // The time at which all that was charged is paid.
    absl::Duration paid_at_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  };

  // For one call of the peer. Null where there is no limit.
  std::shared_ptr<Bucket> BucketOf(const std::string& peer, absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const uint64_t bytes_per_second_;
  absl::Mutex mutex_;
  // Kept while it is not full: else a peer would be rid of its debts with a new call.
  std::map<std::string, std::shared_ptr<Bucket>> buckets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_PEER_RATES_H_
