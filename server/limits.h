// Every limit that the server keeps, with the reason for its default. Flags set them (server_flags.cc); docs/limits.md
// says what each is for and what a client sees.
#ifndef WEIGHTSTREAM_SERVER_LIMITS_H_
#define WEIGHTSTREAM_SERVER_LIMITS_H_

#include <cstdint>

#include "absl/time/time.h"

namespace weightstream {

struct Limits {
  // Most payload bytes in one chunk. Messages of 256 KiB to 1 MiB were measured the fastest near by, large ones from
  // far away: gRPC delivers whole messages, and larger ones leave the cache before they are copied.
  uint64_t bucket_bytes = 4 << 20;

  // Bytes of the staging ring, for devices that need one: 16 chunks in flight hide a copy's latency many times over.
  uint64_t staging_bytes = 64 << 20;

  // Most bytes of one version. 0 is what the medium holds.
  uint64_t model_bytes = 0;

  // Most tensors in a manifest, and most bytes of a BeginUpdate message: a mixture-of-experts model with an entry per
  // expert and layer has some 100,000.
  uint64_t manifest_tensors = 1'000'000;
  uint64_t manifest_bytes = 64 << 20;

  // Committed versions that a model keeps, the current one among them: one to roll back to.
  uint64_t keep_versions = 2;

  // Whether memory for each model's next version is made ready after a commit. It speeds up the next push several times
  // and takes the memory earlier than that push would.
  bool spare_arenas = true;

  // Models that one server knows at a time.
  uint64_t models = 1024;

  // Updates in flight, of all models. Each holds memory, or a promise of it; the medium is the bound that matters. Four
  // times the 64 trainers that were tested at once.
  uint64_t updates = 256;

  // Without a chunk for this long an update is aborted and what it holds freed. Long enough for a killed sender to be
  // started again.
  absl::Duration idle_update = absl::Minutes(10);

  // What is slower than this over `silent_call` gives way where its place is needed: an update in what lands of it, the
  // Push, Pull and DigestModel calls of a peer in what they move together, for each four of them. A link of half a
  // megabit a second has more; nobody sends weights over less.
  uint64_t least_bytes_per_second = 64 << 10;

  // An update that is under way for longer gives way where its room is needed. 100 GiB take 15 minutes over 1 Gbit/s.
  absl::Duration update_time = absl::Hours(1);

  // How long a call waits for another one that is changing the same model.
  absl::Duration operation_wait = absl::Seconds(30);

  // How long a chunk waits for a free staging slot, and a stream's end for its last copies: a device that takes longer
  // is stuck.
  absl::Duration copy_wait = absl::Seconds(30);

  // At shutdown, how long updates in flight may take to finish.
  // Less than the 30 s that Kubernetes grants by default.
  absl::Duration drain = absl::Seconds(20);

  // HTTP/2 keepalive: a peer that is gone or stopped is found out within the sum.
  absl::Duration keepalive_time = absl::Seconds(10);
  absl::Duration keepalive_timeout = absl::Seconds(10);

  // How long a stream may send no first chunk, or a reader take no message, before the call is cut. Keepalive does not
  // see this: gRPC answers pings for a program that hangs.
  absl::Duration silent_call = absl::Seconds(30);

  // What a sender may send ahead in one stream beyond the messages that the server has asked for. It is less than half
  // of the connection's window, HTTP/2's 64 KiB: once that is half used gRPC opens both again, and what comes while the
  // server lands the last two messages would trickle in by as much at a time, each with two wake-ups
  // (docs/decisions/0008-poll.md). Of several streams on one connection, as over a long way, each may send so much.
  uint64_t window_bytes = 30 << 10;

  // Messages being received, of all connections. Beyond this gRPC resets streams, so it is far above what the windows
  // allow in normal use.
  uint64_t receive_bytes = uint64_t{2} << 30;

  // Replies that are made or being sent, of those that grow with a model: a million tensors take 60 MB.
  uint64_t reply_bytes = 256 << 20;

  // Streams of one peer at once: of those that `threads` leaves, enough for 16 connections with ten streams each, or 64
  // clients with two each, and a sixth for everybody else.
  int peer_streams = 160;

  // Connections at once, of all peers and of each. One costs a descriptor and some 100 KB: the first is far above what
  // the streams can use, the second takes 64 clients with four each on one host.
  uint64_t connections = 1024;
  uint64_t peer_connections = 256;

  // How long a connection may take to say its first bytes, and then to finish its handshake. A TLS handshake takes
  // milliseconds; this is for machines with far more to do than they can.
  absl::Duration handshake = absl::Seconds(20);

  // A connection without a call for this long is closed; clients connect again by themselves when they need to. Longer
  // than the time between two updates usually is.
  absl::Duration idle_connection = absl::Minutes(30);

  // Under mutual TLS, a connection this old gets no new calls: its client connects again, and must show a certificate
  // that holds now. gRPC looks at one in the handshake only. Calls in flight go on, so that no push is cut; an hour is
  // shorter than any certificate lives.
  absl::Duration connection_age = absl::Hours(1);

  // Payload that one peer may push and pull in a second, all its streams together. 0 is as fast as it goes.
  uint64_t peer_bytes_per_second = 0;

  // Calls served at once, each on a thread of its own; further ones are refused with RESOURCE_EXHAUSTED. Streams may
  // take three quarters, so that commits and aborts always find a thread.
  int threads = 256;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LIMITS_H_
