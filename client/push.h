// Pushes a version of a model to servers: the library behind `weightstream push`.
//
//   auto source = OpenCheckpointSource("/models/llama");
//   PushOptions options;
//   options.model = "llama";
//   auto result = Push(**source, {"10.0.0.5:7070", "10.0.0.6:7070"}, options, [](const PushProgress& p) { Draw(p); });
//
// A program whose main begins with KeepOpensslAtExit() and TuneGrpcForStreaming() (process/) pushes faster, and with
// LeaveOutLockChecks() as well: they concern the whole process, so the library does not call them.
//
// What it promises: all or nothing over all servers (unless allow_partial), commit only once every byte is there on
// every one of them, and only if the source is still what it was (WeightSource::CheckUnchanged); a lost connection
// costs the chunks in flight, and is retried with backoff; one slow or dead server does not stop the others from
// receiving; no wait is for ever; and where a reply to a commit was lost, the truth is asked for. All or nothing has
// one hole, which two servers alone cannot close: one that fails in the commit itself, after the others have committed.
// It then is reported as failed, and the same push to it again ends with ALREADY_EXISTS or heals it.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_H_
#define WEIGHTSTREAM_CLIENT_PUSH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "client/security.h"
#include "client/weight_source.h"

namespace weightstream {

struct PushOptions {
  std::string model;
  // 0: the version of an update in flight of the same source, which is then resumed; else one more than the highest
  // version that any of the servers has seen. Servers that cannot be reached within 3 s of the first answer have no say
  // in it.
  uint64_t version = 0;
  // TCP connections to each server for the data, 64 at most; 0 chooses, by the work and the distance (client/pace.h).
  // One more carries the other calls.
  int connections = 0;
  // Most payload bytes in a chunk; 0 chooses. The server's limit holds in any case.
  uint64_t bucket_limit_bytes = 0;
  // Commit on the servers that have everything even if others failed.
  bool allow_partial = false;
  // How often in a row a server may fail without one new byte landed, before it counts as failed.
  int max_attempts = 5;
  TimeLimits limits;
  Security security;
  // The trace that the push is a part of, as W3C Trace Context has it: "00-<trace id>-<span id>-<flags>". Each server's
  // update is a span of its own in it, a child of that one, which the server writes to its log. Empty is none.
  std::string traceparent{};
};

enum class PushPhase { kConnecting, kBeginning, kSending, kWaiting, kCommitting, kDone, kFailed };
const char* PushPhaseName(PushPhase phase);

// Of one server.
struct PushProgress {
  std::string server;
  PushPhase phase = PushPhase::kConnecting;
  uint64_t version = 0;
  uint64_t total_bytes = 0;
  // Handed to the connection and on the wire or landed; falls when a lost connection makes bytes go again.
  // sent_bytes + resumed_bytes is total_bytes once everything is there.
  uint64_t sent_bytes = 0;
  // Landed before this push began: what a resume saved. Falls to 0 if the server is restarted and loses it.
  uint64_t resumed_bytes = 0;
  int retries = 0;
};

// Called from the thread that called Push, at most some twenty times a second a server and at each change of phase.
// Must not block for long: cancellation and stalls are noticed by the same thread.
using PushProgressCallback = std::function<void(const PushProgress&)>;

struct ServerOutcome {
  std::string server;
  // OK: committed there. ABORTED with "not committed: ..." where this server had everything but another one failed.
  absl::Status status;
  // Payload bytes that were sent, repeats included, and those that a resume saved.
  uint64_t sent_bytes = 0;
  uint64_t resumed_bytes = 0;
  int retries = 0;
  // The version's file on that server; empty where there is none.
  std::string path;
  // By which the server's log calls the update; empty where none was begun.
  std::string update_id;
  // What that server was told; empty without a trace.
  std::string traceparent;
  absl::Duration begin_time, send_time, commit_time;
};

struct PushResult {
  uint64_t version = 0;
  uint64_t total_bytes = 0;
  uint64_t tensors = 0;
  // In the order of `servers`.
  std::vector<ServerOutcome> servers;
  absl::Duration elapsed;
  // OK if every server committed; else the first failure by its own cause, prefixed with the server's address.
  absl::Status status;
};

// Blocks until every server has committed or failed. Errors that concern no server (bad options, a bad manifest, more
// than 256 servers) are returned as such; what happened on servers is in the result. The source's bytes are no longer
// in use when it returns; should gRPC not let go of them, the error is INTERNAL and says so. `cancelled`, if given, is
// asked several times a second from the calling thread; once it says true the push ends, and the result's status is
// CANCELLED. Updates that are cut short by a lost connection or a cancellation are left to be resumed; one that its
// server refused, or that another server's failure made useless, is aborted.
absl::StatusOr<PushResult> Push(const WeightSource& source, const std::vector<std::string>& servers,
                                const PushOptions& options, PushProgressCallback progress = nullptr,
                                std::function<bool()> cancelled = nullptr);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_H_
