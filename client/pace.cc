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

uint64_t NearChunkBytes(const PaceWishes& wishes) {
  if (wishes.chunk_size_given) return wishes.bucket_limit_bytes;
  // Each connection has a thread at both ends. With fewer, processors are idle, and somebody has to be woken for each
  // message; with more, connections take turns, and what one had in the cache is gone at its next.
  const bool paired = wishes.connections * wishes.servers_here == wishes.shared_processors;
  return std::min(wishes.bucket_limit_bytes, paired ? kPairedChunkBytes : kDefaultChunkBytes);
}

// The server holds a chunk or two of each stream. So more connections than four share what four would have on the way.
int FarStreams(absl::Duration round_trip, uint64_t chunk_bytes, int connections) {
  const double on_the_way = absl::ToDoubleSeconds(round_trip) * kConnectionBytesPerSecond * kWindowsPerProduct;
  const double wanted = std::ceil(on_the_way / static_cast<double>(chunk_bytes));
  const double shared = wanted * kFarConnections / std::max(connections, kFarConnections);
  return static_cast<int>(std::clamp<double>(shared, kLeastFarStreams, kMostFarStreams));
}

}  // namespace

Pace ChoosePace(absl::Duration round_trip, const PaceWishes& wishes) {
  if (round_trip < kNearRoundTrip) return {NearChunkBytes(wishes), wishes.connections, 1};
  // What is too little for two connections near by is too little for four.
  const bool more = !wishes.connections_given && wishes.connections > 1;
  const int connections = more ? std::max(wishes.connections, kFarConnections) : wishes.connections;
  return {wishes.bucket_limit_bytes, connections, FarStreams(round_trip, wishes.bucket_limit_bytes, connections)};
}

}  // namespace weightstream
