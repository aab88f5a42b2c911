// Compares a source with a version on a server by the digests that the server computes.
#ifndef WEIGHTSTREAM_CLIENT_DIGEST_COMPARISON_H_
#define WEIGHTSTREAM_CLIENT_DIGEST_COMPARISON_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/control_client.h"
#include "client/manifest_index.h"
#include "client/read.h"
#include "client/retry_budget.h"
#include "client/stall_watch.h"

namespace weightstream {

struct ModelVersion {
  std::string model;
  // 0 is the current version.
  uint64_t number = 0;
};

// Blocks. A connection that is lost, or a stall, is retried within the budget, and only the tensors that are left are
// asked for again, of the version that was found at first. `compared_bytes` follows the progress. `index` is of the
// source.
absl::StatusOr<VerifyResult> CompareByDigests(const WeightSource& source, const ManifestIndex& index,
                                              ControlClient& control, const ModelVersion& version,
                                              const TimeLimits& limits, RetryBudget& budget, StallWatch& watch,
                                              std::atomic<uint64_t>& compared_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_DIGEST_COMPARISON_H_
