#include "server/recent_rate.h"

namespace weightstream {
namespace {

constexpr absl::Duration kLongestPause = absl::Seconds(5);

}  // namespace

void RecentRate::Sample(absl::Duration now, uint64_t total) {
  if (now - last_.time > kLongestPause) {
    *this = RecentRate(span_, now, total);
    return;
  }
  last_ = {now, total};
  if (now - newer_.time < span_) return;
  older_ = newer_;
  newer_ = last_;
}

absl::optional<double> RecentRate::BytesPerSecond() const {
  const absl::Duration seen = last_.time - older_.time;
  if (seen < span_ || seen <= absl::ZeroDuration()) return absl::nullopt;
  return static_cast<double>(last_.total - older_.total) / absl::ToDoubleSeconds(seen);
}

}  // namespace weightstream
