// What the server counts about itself, as Prometheus metrics (docs/metrics.md lists them all).
#ifndef WEIGHTSTREAM_SERVER_METRICS_H_
#define WEIGHTSTREAM_SERVER_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightstream {

// What became of an update.
enum class UpdateOutcome { kCommitted, kCommitFailed, kSuperseded, kAborted };

// The parts of an update's life. What a chunk costs is in kReceive: its checksum is computed as it is copied.
enum class UpdatePhase {
  kBegin,    // BeginUpdate: check the manifest, provide the memory
  kReceive,  // from there to the commit
  kVerify,   // that all is there, and on its medium
  kCommit,   // to make it the current version
};

// Why a connection was closed before gRPC saw it.
enum class ConnectionRefusal {
  kTooMany,        // --max-connections
  kTooManyOfPeer,  // --max-peer-connections
  kNoDescriptor,   // the process or the kernel has none left
  kSilent,         // it said nothing in time, or while others waited
};

// Thread-safe. What is counted per chunk costs two atomic additions; the rest looks its labels up under a lock.
class Metrics {
 public:
  Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // A chunk of `bytes` payload bytes was taken from a sender, or given to a reader.
  void ChunkReceived(uint64_t bytes);
  void ChunkSent(uint64_t bytes);

  void CallEnded(absl::string_view method, absl::StatusCode code);
  void PhaseTook(UpdatePhase phase, absl::Duration duration);
  void UpdateEnded(UpdateOutcome outcome);
  void ConnectionRefused(ConnectionRefusal why);

  // Of all of the above.
  const prometheus::Collectable& collectable() const { return registry_; }

 private:
  prometheus::Registry registry_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& received_chunks_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& sent_chunks_;
  prometheus::Family<prometheus::Counter>& calls_;
  prometheus::Family<prometheus::Counter>& updates_;
  prometheus::Family<prometheus::Histogram>& phases_;
  prometheus::Family<prometheus::Counter>& refused_connections_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_METRICS_H_
