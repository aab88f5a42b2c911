// How large chunks are, how many connections there are and how many streams share one, from how far away the server is.
//
// gRPC opens HTTP/2's window of a connection for the messages that are being received and little further, so that a
// stream stands still for a round trip after each message. (Its probe of the bandwidth-delay product would open it
// further, and with it the memory that a busy server needs for each connection, without a limit that we could set.) On
// a short way that is nothing: small chunks, which stay in the caches, and one stream are the fastest; smaller ones
// still where both ends are on one machine and keep all its processors busy, so that nobody sleeps for a window. On a
// long way several streams take turns with large chunks, so that some always have an open window; and there are more
// connections, since what is lost holds up only its own.
#ifndef WEIGHTSTREAM_CLIENT_PACE_H_
#define WEIGHTSTREAM_CLIENT_PACE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace weightstream {

struct Pace {
  uint64_t chunk_bytes = 0;
  int connections = 1;
  int streams_per_connection = 1;
};

// Below this a server counts as near: a network in one place, with some time for a busy machine.
inline constexpr absl::Duration kNearRoundTrip = absl::Milliseconds(5);

// What the caller wants, or leaves to be chosen.
struct PaceWishes {
  // The most that a chunk may carry, and what it does carry if `chunk_size_given`.
  uint64_t bucket_limit_bytes = 0;
  bool chunk_size_given = false;
  // As many as the work is worth near by, and as many as there are if `connections_given`.
  int connections = 1;
  bool connections_given = false;
  // How many processors both ends share; 0 if they are not known to be on one machine.
  int shared_processors = 0;
  // How many servers on this machine the same is sent to at once.
  int servers_here = 1;
};

Pace ChoosePace(absl::Duration round_trip, const PaceWishes& wishes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PACE_H_
