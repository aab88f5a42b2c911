// What all servers of one push share, and what one of them counts.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_CONTEXT_H_
#define WEIGHTSTREAM_CLIENT_PUSH_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/borrow_counter.h"
#include "client/client_credentials.h"
#include "client/manifest_checksum.h"
#include "client/manifest_index.h"
#include "client/push.h"
#include "client/wakeup.h"
#include "client/weight_source.h"

namespace weightstream {

// Immutable while the push runs, but for what its members guard themselves.
struct PushContext {
  const WeightSource& source;
  const PushOptions& options;
  const ManifestIndex index;
  const ManifestChecksum manifest_checksum;
  const uint64_t total_bytes;
  // Of the servers, those that are known to be on this machine.
  const int servers_here;
  // To each server that is near (pace.h).
  const int connections;
  // Most payload bytes in a chunk, as far as the sender is concerned.
  const uint64_t bucket_limit_bytes;
  const std::shared_ptr<BorrowCounter> borrows;
  const std::shared_ptr<const ClientCredentials> credentials;
  Wakeup& wakeup;
};

// Written by one server's threads, read by any.
struct TransferCounters {
  // As the server last said.
  std::atomic<uint64_t> landed_bytes = 0;
  // Since then.
  std::atomic<uint64_t> round_bytes = 0;
  // Over all rounds, repeats included.
  std::atomic<uint64_t> sent_bytes = 0;
  std::atomic<uint64_t> resumed_bytes = 0;
  std::atomic<int> retries = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_CONTEXT_H_
