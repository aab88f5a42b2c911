#include "client/pace.h"

#include <algorithm>
#include <cmath>

#include "client/defaults.h"

namespace weightstream {
namespace {

// What a connection may get over a long way: a gigabit a second.
constexpr double kConnectionBytesPerSecond = 125e6;

// A message that is being received has on average half of its window left, and the streams do not take turns evenly:
// measured over 50 ms with 0.1 % loss, the product alone got 0.7 of raw TCP's rate, two and a half times as much 0.9.
constexpr double kWindowsPerProduct = 2.5;

// Each takes a thread at both ends.
constexpr int kLeastFarStreams = 2;
constexpr int kMostFarStreams = 16;

}  // namespace

Pace ChoosePace(absl::Duration round_trip, uint64_t bucket_limit_bytes, bool chunk_size_given) {
  if (round_trip < kNearRoundTrip) {
    return {chunk_size_given ? bucket_limit_bytes : std::min(bucket_limit_bytes, kDefaultChunkBytes), 1};
  }
  const double on_the_way = absl::ToDoubleSeconds(round_trip) * kConnectionBytesPerSecond * kWindowsPerProduct;
  const double streams = std::ceil(on_the_way / static_cast<double>(bucket_limit_bytes));
  return {bucket_limit_bytes, static_cast<int>(std::clamp<double>(streams, kLeastFarStreams, kMostFarStreams))};
}

}  // namespace weightstream
