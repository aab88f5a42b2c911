// What the client chooses where its caller does not, and the limits that it sets itself: all in one place, with
// reasons.
#ifndef WEIGHTSTREAM_CLIENT_DEFAULTS_H_
#define WEIGHTSTREAM_CLIENT_DEFAULTS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace weightstream {

// One connection is bound by one core's copies; two saturate a small machine, and more only add wake-ups there.
inline constexpr int kDefaultConnections = 2;
// Below this a second connection costs more in set-up than it carries.
inline constexpr uint64_t kOneConnectionBelowBytes = 8 << 20;
// Far above what any link needs (four to eight fill 100 Gbit/s); it catches a mistyped number.
inline constexpr int kMaxConnections = 64;

// Smaller messages cost more wake-ups a byte, larger ones leave the cache before they are copied out; on a network each
// message also costs a stream a round trip. docs/performance.md has the rates.
inline constexpr uint64_t kDefaultChunkBytes = 1 << 20;
// Where each processor of one machine has both ends of a connection, so that they need not be woken: a tenth faster
// there, a third slower where there are processors to spare, and a fifth slower with four times as many connections.
inline constexpr uint64_t kPairedChunkBytes = 384 << 10;
// What is asked of a server, and used on a long way: see pace.h.
inline constexpr uint64_t kLargestChosenChunkBytes = 4 << 20;
// gRPC's message length is a 32-bit number and the header needs room.
inline constexpr uint64_t kMaxChunkBytes = 1 << 30;

// A push takes servers x connections threads, each with its stack and a blocked call. 64 servers are comfortable;
// beyond these a push should go through relays.
inline constexpr size_t kMaxServers = 256;
inline constexpr size_t kMaxSenderThreads = 2048;

// As the wire says.
inline constexpr size_t kMaxSourceIdBytes = 256;

// Replies carry manifests and lists of missing ranges: some 100 bytes a tensor, so this is good for a million and more.
inline constexpr int kMaxReplyBytes = 256 << 20;

// How often a server that answers may bring nothing new in a row, where the caller does not say: enough for what passes
// by itself, soon enough over for what does not.
inline constexpr int kDefaultMaxAttempts = 5;

// Waits between attempts: short at first, since most losses are of one connection; the most well under the time that a
// server takes to start.
inline constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
inline constexpr absl::Duration kMostBackoff = absl::Seconds(5);

// How often the thread that called looks at cancellation, stalls and progress: twenty times a second.
inline constexpr absl::Duration kSupervisionInterval = absl::Milliseconds(50);

// Where the version is to be chosen, how long servers that do not answer are waited for once one has.
inline constexpr absl::Duration kVersionGrace = absl::Seconds(3);

// A server that has everything, and waits for a slower one, is asked this often, or twice in TimeLimits::stall, whether
// it still has: this keeps its update from ending by idleness, and notices a restart early.
inline constexpr absl::Duration kHoldInterval = absl::Seconds(15);

// How long a server whose BeginUpdate is under way is left to answer it, once another's failure has made the update
// useless: to begin takes milliseconds, and an update whose id is not known cannot be aborted.
inline constexpr absl::Duration kBeginGrace = absl::Seconds(2);

// For the parting AbortUpdate, which must not hold up the report of the failure that led to it.
inline constexpr absl::Duration kAbortLimit = absl::Seconds(5);

// gRPC lets go of the source's bytes as its connections close, which takes microseconds.
inline constexpr absl::Duration kReleaseLimit = absl::Seconds(10);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_DEFAULTS_H_
