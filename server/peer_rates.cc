#include "server/peer_rates.h"

#include <algorithm>
#include <iterator>

namespace weightstream {
namespace {

// What a peer that was quiet may move at once: hides the pauses between the rounds of an update.
constexpr absl::Duration kMostSaved = absl::Seconds(1);

}  // namespace

absl::Duration PeerRates::Bucket::Charge(uint64_t bytes, absl::Duration now) {
  const absl::Duration cost = absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_));
  absl::MutexLock lock(&mutex_);
  paid_at_ = std::max(paid_at_, now - kMostSaved) + cost;
  return paid_at_ - now;
}

bool PeerRates::Bucket::IsFull(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  return paid_at_ <= now - kMostSaved;
}

std::shared_ptr<PeerRates::Bucket> PeerRates::BucketOf(const std::string& peer, absl::Duration now) {
  if (bytes_per_second_ == 0) return nullptr;
  absl::MutexLock lock(&mutex_);
  const auto known = buckets_.find(peer);
  if (known != buckets_.end()) return known->second;
  // Those that are of no use go whenever one comes.
  for (auto it = buckets_.begin(); it != buckets_.end();) {
    const bool idle = it->second.use_count() == 1 && it->second->IsFull(now);
    it = idle ? buckets_.erase(it) : std::next(it);
  }
  auto bucket = std::make_shared<Bucket>(bytes_per_second_);
  buckets_[peer] = bucket;
  return bucket;
}

}  // namespace weightstream
