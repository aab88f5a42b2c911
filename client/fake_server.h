// A server for tests: the real service on a real socket, its versions in memory, and misbehaviour on demand.
#ifndef WEIGHTSTREAM_CLIENT_FAKE_SERVER_H_
#define WEIGHTSTREAM_CLIENT_FAKE_SERVER_H_

#include <grpcpp/server.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "tensor/byte_range.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {

// Keeps every promise of weightstream.proto that a client can see, straightforwardly, unless a hook interferes.
// Thread-safe.
class FakeServer {
 public:
  // Each is optional, and called on gRPC's threads without a lock, so that it may block and may call the server. An
  // error becomes the call's.
  struct Hooks {
    std::function<absl::Status(const grpc::ServerContext&)> on_get_model;
    std::function<absl::Status(const grpc::ServerContext&, v1::BeginUpdateRequest&)> on_begin;
    // Lets the reply be forged.
    std::function<void(v1::BeginUpdateResponse&)> on_begun;
    // Before the chunk's checksum is looked at. `number` counts the server's chunks from 0.
    std::function<absl::Status(const grpc::ServerContext&, v1::WeightChunk&, int number)> on_chunk;
    // Before the commit takes effect, and after, when an error is a lost reply.
    std::function<absl::Status(const grpc::ServerContext&)> before_commit;
    std::function<absl::Status(const grpc::ServerContext&)> after_commit;
    // Before a chunk of a Pull, or a digest, is sent; counted from 0 over the server.
    std::function<absl::Status(const grpc::ServerContext&, v1::WeightChunk&, int number)> on_pull_chunk;
    std::function<absl::Status(const grpc::ServerContext&, v1::TensorDigest&, int number)> on_digest;
  };

  struct LandedChunk {
    std::string tensor;
    ByteRange range;
  };

  explicit FakeServer(Hooks hooks = {}, uint64_t bucket_limit_bytes = 1 << 20);
  // Ends every call at once.
  ~FakeServer();

  // 127.0.0.1:PORT.
  const std::string& address() const { return address_; }
  int port() const { return port_; }
  // The same server on a socket in a folder of its own: unix:PATH.
  const std::string& unix_address() const { return unix_address_; }

  // As after a restart: committed versions stay, updates are forgotten.
  void ForgetUpdates();

  // The bytes of a tensor in the current version of `model`; nothing if there is none.
  absl::optional<std::string> Tensor(const std::string& model, const std::string& tensor) const;
  uint64_t current_version(const std::string& model) const;
  // Overwrites one byte of the current version.
  void Damage(const std::string& model, const std::string& tensor, uint64_t offset);

  std::vector<LandedChunk> landed() const;
  uint64_t landed_bytes() const;
  int begins() const;
  int commits() const;
  // The reasons given with AbortUpdate.
  std::vector<std::string> aborts() const;
  // Push streams that were opened, by the peer's address: how many connections were used.
  std::vector<std::string> stream_peers() const;
  // Of these, those that ended without a chunk, other than by cancellation.
  int empty_streams() const;
  std::vector<v1::PullRequest> pulls() const;
  v1::Model State(const std::string& model) const;

  // For hooks that never answer: returns once the call is cancelled.
  static void WaitUntilCancelled(const grpc::ServerContext& context);

 private:
  struct Version {
    v1::Manifest manifest;
    std::map<std::string, std::string> bytes;
  };
  struct Update {
    std::string id;
    v1::BeginUpdateRequest request;
    Version version;
    std::map<std::string, ByteRangeSet> missing;
    bool committed = false;

    uint64_t missing_bytes() const;
  };
  struct ModelState {
    std::map<uint64_t, Version> versions;
    uint64_t current = 0;
    absl::optional<Update> update;
  };
  class Service;

  absl::Status Begin(const v1::BeginUpdateRequest& request, v1::BeginUpdateResponse& response);
  absl::Status Land(const std::string& update_id, const v1::WeightChunk& chunk);
  absl::Status Commit(const v1::CommitUpdateRequest& request, v1::CommitUpdateResponse& response);
  absl::Status Abort(const v1::AbortUpdateRequest& request);
  absl::StatusOr<Version> Find(const std::string& model, uint64_t number) const;
  Update* FindUpdate(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t MissingBytes(const std::string& update_id) const;

  const Hooks hooks_;
  const uint64_t bucket_limit_bytes_;
  int port_ = 0;
  std::string address_;
  std::string folder_;
  std::string unix_address_;

  mutable absl::Mutex mutex_;
  std::map<std::string, ModelState> models_ ABSL_GUARDED_BY(mutex_);
  std::vector<LandedChunk> landed_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> aborts_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> stream_peers_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::PullRequest> pulls_ ABSL_GUARDED_BY(mutex_);
  int begins_ ABSL_GUARDED_BY(mutex_) = 0;
  int commits_ ABSL_GUARDED_BY(mutex_) = 0;
  int updates_made_ ABSL_GUARDED_BY(mutex_) = 0;
  int chunks_ ABSL_GUARDED_BY(mutex_) = 0;
  int empty_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  int pull_chunks_ ABSL_GUARDED_BY(mutex_) = 0;
  int digests_ ABSL_GUARDED_BY(mutex_) = 0;

  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_FAKE_SERVER_H_
