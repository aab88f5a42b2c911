#include "client/push.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/address.h"
#include "client/defaults.h"
#include "client/push_context.h"
#include "client/push_job.h"
#include "proto/trace_context.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

int ChooseConnections(const PushOptions& options, uint64_t total_bytes) {
  if (options.connections != 0) return options.connections;
  return total_bytes < kOneConnectionBelowBytes ? 1 : kDefaultConnections;
}

int CountServersHere(const std::vector<std::string>& servers) {
  return static_cast<int>(std::count_if(servers.begin(), servers.end(), [](const std::string& server) {
    const absl::StatusOr<Address> address = ParseAddress(server);
    return address.ok() && IsLocalAddress(*address);
  }));
}

uint64_t ChooseBucketLimit(const PushOptions& options) {
  return options.bucket_limit_bytes != 0 ? options.bucket_limit_bytes : kLargestChosenChunkBytes;
}

absl::Status ValidateServers(const std::vector<std::string>& servers, const Security& security) {
  if (servers.empty()) return absl::InvalidArgumentError("no server to push to; name at least one address");
  if (servers.size() > kMaxServers) {
    return absl::InvalidArgumentError(
        absl::StrCat(servers.size(), " servers are too many for one push; give at most ", kMaxServers));
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (const std::string& server : servers) {
    absl::Status valid = ValidateAddress(server);
    if (valid.ok()) valid = ValidateSecurity(security, server);
    if (!valid.ok()) return valid;
    if (!seen.insert(server).second) {
      return absl::InvalidArgumentError(absl::StrCat("server ", server, " is named twice; name each once"));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateOptions(const PushOptions& options, size_t servers) {
  absl::Status status = ValidateModelName(options.model);
  if (status.ok()) status = ValidateTimeLimits(options.limits);
  if (!status.ok()) return status;
  if (options.connections < 0 || options.connections > kMaxConnections) {
    return absl::InvalidArgumentError(absl::StrCat(options.connections, " connections to each server; give 1 to ",
                                                   kMaxConnections, ", or 0 to have the number chosen"));
  }
  if (options.connections * servers > kMaxSenderThreads) {
    return absl::InvalidArgumentError(absl::StrCat(options.connections, " connections to each of ", servers,
                                                   " servers take more than ", kMaxSenderThreads,
                                                   " threads; use fewer connections"));
  }
  if (options.bucket_limit_bytes > kMaxChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a bucket limit of ", options.bucket_limit_bytes,
                                                   " bytes is too large; give at most ", kMaxChunkBytes));
  }
  if (!options.traceparent.empty() && !ParseTraceparent(options.traceparent).has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("traceparent \"", Printable(options.traceparent),
                                                   "\" is none; give \"00-\", 32 and 16 digits of lower-case "
                                                   "hexadecimal and two of flags, with \"-\" between, as W3C Trace "
                                                   "Context has it"));
  }
  if (options.max_attempts < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_attempts is ", options.max_attempts, "; give at least 1"));
  }
  return absl::OkStatus();
}

}  // namespace

const char* PushPhaseName(PushPhase phase) {
  switch (phase) {
    case PushPhase::kConnecting:
      return "connecting";
    case PushPhase::kBeginning:
      return "beginning";
    case PushPhase::kSending:
      return "sending";
    case PushPhase::kWaiting:
      return "waiting";
    case PushPhase::kCommitting:
      return "committing";
    case PushPhase::kDone:
      return "done";
    case PushPhase::kFailed:
      return "failed";
  }
  return "unknown";
}

absl::StatusOr<PushResult> Push(const WeightSource& source, const std::vector<std::string>& servers,
                                const PushOptions& options, PushProgressCallback progress,
                                std::function<bool()> cancelled) {
  absl::Status valid = ValidateServers(servers, options.security);
  if (valid.ok()) valid = ValidateOptions(options, servers.size());
  if (!valid.ok()) return valid;
  const absl::StatusOr<uint64_t> total_bytes = ValidateSource(source);
  if (!total_bytes.ok()) return total_bytes.status();
  absl::StatusOr<std::shared_ptr<const ClientCredentials>> credentials = ClientCredentials::Load(options.security);
  if (!credentials.ok()) return credentials.status();

  const absl::Duration began = MonotonicNow();
  Wakeup wakeup;
  const PushContext context{source,
                            options,
                            ManifestIndex(source.tensors()),
                            ManifestChecksum(source.metadata()),
                            *total_bytes,
                            CountServersHere(servers),
                            ChooseConnections(options, *total_bytes),
                            ChooseBucketLimit(options),
                            std::make_shared<BorrowCounter>(),
                            *std::move(credentials),
                            wakeup};
  PushResult result = PushJob(context, servers, std::move(progress), std::move(cancelled)).Run();
  // The job has closed every connection, so gRPC has no use for the bytes any more; it lets go of them on its own
  // threads, in microseconds. Should it ever keep some, waiting for ever would be worse than saying so: the caller must
  // then not free them. The counter outlives us, shared with what is still on loan.
  if (!context.borrows->WaitUntilReturned(kReleaseLimit)) {
    return absl::InternalError(absl::StrCat("gRPC still holds ", context.borrows->outstanding(),
                                            " chunks of the source ", absl::FormatDuration(kReleaseLimit),
                                            " after every connection was closed; keep the source's memory until the "
                                            "process ends"));
  }
  result.elapsed = MonotonicNow() - began;
  return result;
}

}  // namespace weightstream
