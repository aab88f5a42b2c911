#include "server/metrics.h"

#include <string>

namespace weightstream {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Registry;

// From a commit (below a millisecond) to a large model over a slow link.
const prometheus::Histogram::BucketBoundaries& PhaseSeconds() {
  static const auto& seconds =
      *new prometheus::Histogram::BucketBoundaries{0.0001, 0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
  return seconds;
}

const char* OutcomeName(UpdateOutcome outcome) {
  switch (outcome) {
    case UpdateOutcome::kCommitted:
      return "committed";
    case UpdateOutcome::kCommitFailed:
      return "commit_failed";
    case UpdateOutcome::kSuperseded:
      return "superseded";
    case UpdateOutcome::kAborted:
      return "aborted";
  }
  return "unknown";
}

const char* PhaseName(UpdatePhase phase) {
  switch (phase) {
    case UpdatePhase::kBegin:
      return "begin";
    case UpdatePhase::kReceive:
      return "receive";
    case UpdatePhase::kVerify:
      return "verify";
    case UpdatePhase::kCommit:
      return "commit";
  }
  return "unknown";
}

const char* RefusalName(ConnectionRefusal why) {
  switch (why) {
    case ConnectionRefusal::kTooMany:
      return "max_connections";
    case ConnectionRefusal::kTooManyOfPeer:
      return "max_peer_connections";
    case ConnectionRefusal::kNoDescriptor:
      return "no_descriptor";
    case ConnectionRefusal::kSilent:
      return "silent";
  }
  return "unknown";
}

Counter& OneCounter(Registry& registry, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

Metrics::Metrics()
    : received_bytes_(OneCounter(registry_, "weightstream_received_bytes_total",
                                 "Payload bytes of chunks taken from senders, repeats included.")),
      received_chunks_(OneCounter(registry_, "weightstream_received_chunks_total", "Chunks taken from senders.")),
      sent_bytes_(OneCounter(registry_, "weightstream_sent_bytes_total", "Payload bytes of chunks given to readers.")),
      sent_chunks_(OneCounter(registry_, "weightstream_sent_chunks_total", "Chunks given to readers.")),
      calls_(BuildCounter()
                 .Name("weightstream_calls_total")
                 .Help("Calls that ended, by method and gRPC status code; every code but OK is an error.")
                 .Register(registry_)),
      updates_(BuildCounter()
                   .Name("weightstream_updates_total")
                   .Help("Updates that ended, by what became of them.")
                   .Register(registry_)),
      phases_(BuildHistogram()
                  .Name("weightstream_update_phase_seconds")
                  .Help("How long each phase of an update took.")
                  .Register(registry_)),
      refused_connections_(BuildCounter()
                               .Name("weightstream_connections_refused_total")
                               .Help("Connections that were closed before a call was made on them, by why.")
                               .Register(registry_)) {
  // Each is there from the start, so that a rate over it sees its first step.
  for (const UpdateOutcome outcome :
       {UpdateOutcome::kCommitted, UpdateOutcome::kCommitFailed, UpdateOutcome::kSuperseded, UpdateOutcome::kAborted}) {
    updates_.Add({{"outcome", OutcomeName(outcome)}});
  }
  for (const UpdatePhase phase :
       {UpdatePhase::kBegin, UpdatePhase::kReceive, UpdatePhase::kVerify, UpdatePhase::kCommit}) {
    phases_.Add({{"phase", PhaseName(phase)}}, PhaseSeconds());
  }
  for (const ConnectionRefusal why : {ConnectionRefusal::kTooMany, ConnectionRefusal::kTooManyOfPeer,
                                      ConnectionRefusal::kNoDescriptor, ConnectionRefusal::kSilent}) {
    refused_connections_.Add({{"reason", RefusalName(why)}});
  }
}

void Metrics::ChunkReceived(uint64_t bytes) {
  received_bytes_.Increment(static_cast<double>(bytes));
  received_chunks_.Increment();
}

void Metrics::ChunkSent(uint64_t bytes) {
  sent_bytes_.Increment(static_cast<double>(bytes));
  sent_chunks_.Increment();
}

void Metrics::CallEnded(absl::string_view method, absl::StatusCode code) {
  // gRPC's code of success is written as the others are.
  calls_.Add({{"method", std::string(method)}, {"code", absl::StatusCodeToString(code)}}).Increment();
}

void Metrics::PhaseTook(UpdatePhase phase, absl::Duration duration) {
  phases_.Add({{"phase", PhaseName(phase)}}, PhaseSeconds()).Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::UpdateEnded(UpdateOutcome outcome) { updates_.Add({{"outcome", OutcomeName(outcome)}}).Increment(); }

void Metrics::ConnectionRefused(ConnectionRefusal why) {
  refused_connections_.Add({{"reason", RefusalName(why)}}).Increment();
}

}  // namespace weightstream
