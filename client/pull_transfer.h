// Reads a committed version from a server into a safetensors file. Internal to the client.
#ifndef WEIGHTSTREAM_CLIENT_PULL_TRANSFER_H_
#define WEIGHTSTREAM_CLIENT_PULL_TRANSFER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/control_client.h"
#include "client/manifest_index.h"
#include "client/read.h"
#include "client/retry_budget.h"
#include "client/stall_watch.h"
#include "proto/chunk_codec.h"
#include "tensor/byte_range.h"
#include "tensor/safetensors_writer.h"

namespace weightstream {

// Used by one thread; the counters may be read by any.
class PullTransfer {
 public:
  PullTransfer(ControlClient& control, const ReadOptions& options, std::string path, StallWatch& watch);

  // Blocks. The file is there, whole, once it returns OK, and not there otherwise.
  absl::StatusOr<PullResult> Run();

  uint64_t done_bytes() const { return done_bytes_.load(std::memory_order_relaxed); }
  uint64_t total_bytes() const { return total_bytes_.load(std::memory_order_relaxed); }

 private:
  // Learns what there is, and makes the file.
  absl::Status Open();
  absl::Status TransferAll();
  // One call, for what is missing.
  absl::Status TransferMissing();
  v1::PullRequest RequestMissing() const;
  absl::Status Receive(grpc::ByteBuffer& message);
  absl::Status CheckChunk(const ChunkHeader& header, uint64_t data_bytes, uint32_t tensor) const;
  absl::Status WaitAfter(absl::Duration began, const absl::Status& failure, bool progressed);

  ControlClient& control_;
  const ReadOptions& options_;
  const std::string path_;
  StallWatch& watch_;
  RetryBudget budget_;

  uint64_t version_ = 0;
  // By the layout's order.
  std::vector<TensorSpec> specs_;
  std::unique_ptr<ManifestIndex> index_;
  std::vector<ByteRangeSet> missing_;
  std::unique_ptr<SafetensorsWriter> writer_;
  ReceivedChunk chunk_;
  std::atomic<uint64_t> done_bytes_ = 0;
  std::atomic<uint64_t> total_bytes_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PULL_TRANSFER_H_
