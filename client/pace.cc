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

// Over 50 ms with 0.1 % loss and a gigabit a second two connections got 0.7 of the rate of four, eight a twentieth
// more.
constexpr int kFarConnections = 4;

// Each takes a thread at both ends.
constexpr int kLeastFarStreams = 2;
constexpr int kMostFarStreams = 16;

}  // namespace

Pace ChoosePace(absl::Duration round_trip, const PaceWishes& wishes) {
  const uint64_t bucket = wishes.bucket_limit_bytes;
  if (round_trip < kNearRoundTrip) {
    return {wishes.chunk_size_given ? bucket : std::min(bucket, kDefaultChunkBytes), wishes.connections, 1};
  }
  // What is too little for two connections near by is too little for four.
  const bool more = !wishes.connections_given && wishes.connections > 1;
  const double on_the_way = absl::ToDoubleSeconds(round_trip) * kConnectionBytesPerSecond * kWindowsPerProduct;
  const double streams = std::ceil(on_the_way / static_cast<double>(bucket));
  return {bucket, more ? std::max(wishes.connections, kFarConnections) : wishes.connections,
          static_cast<int>(std::clamp<double>(streams, kLeastFarStreams, kMostFarStreams))};
}

}  // namespace weightstream
