// The generated stub over a real socket, as a client in any language would use it: nothing of client/ or of the chunk
// codec is in it. Every call has a deadline of 30 seconds, so that a test fails instead of hanging.
#ifndef WEIGHTSTREAM_SERVER_TEST_CLIENT_H_
#define WEIGHTSTREAM_SERVER_TEST_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {

struct TestTensor {
  TensorSpec spec;
  std::string data;
};

// With PatternBytes(seed) of the right size.
TestTensor MakeTensor(absl::string_view name, DType dtype, std::vector<uint64_t> shape, uint64_t seed);

// Of every kind: several dtypes, a scalar, an empty tensor between two others, odd sizes, a name that is no path.
std::vector<TestTensor> VariedTensors(uint64_t seed);

v1::BeginUpdateRequest BeginRequest(const std::string& model, uint64_t version, const std::vector<TestTensor>& tensors);

// A chunk with the checksum that its bytes have. `bytes` is cut at the tensor's end.
v1::WeightChunk ChunkOf(const TestTensor& tensor, uint64_t offset, uint64_t bytes, const std::string& update_id = "");

// Every byte of the tensors, in chunks of at most this many bytes.
std::vector<v1::WeightChunk> ChunksOf(const std::vector<TestTensor>& tensors, uint64_t bucket_bytes,
                                      const std::string& update_id);

// A context whose deadline is 30 seconds from now.
std::unique_ptr<grpc::ClientContext> NewContext();

class TestClient {
 public:
  // A connection of its own; with each call goes the token, if there is one.
  explicit TestClient(
      const std::string& address, std::string token = "",
      const std::shared_ptr<grpc::ChannelCredentials>& credentials = grpc::InsecureChannelCredentials());

  v1::WeightStream::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  absl::StatusOr<v1::BeginUpdateResponse> Begin(const v1::BeginUpdateRequest& request);
  // All on one stream; stops at the first chunk that the server does not take any more.
  absl::StatusOr<v1::PushResponse> Push(const std::vector<v1::WeightChunk>& chunks);
  absl::StatusOr<v1::CommitUpdateResponse> Commit(const std::string& model, const std::string& update_id);
  absl::Status Abort(const std::string& model, const std::string& update_id, const std::string& reason);
  absl::StatusOr<v1::Model> GetModel(const std::string& model);
  absl::StatusOr<v1::RollbackModelResponse> Rollback(const std::string& model, uint64_t version);
  absl::StatusOr<std::vector<v1::WeightChunk>> Pull(const v1::PullRequest& request);
  absl::StatusOr<std::vector<v1::TensorDigest>> Digest(const v1::DigestModelRequest& request);

  // As NewContext, with the client's token.
  std::unique_ptr<grpc::ClientContext> Context() const;

  // Begin, push, commit.
  absl::Status PushVersion(const std::string& model, uint64_t version, const std::vector<TestTensor>& tensors);
  // Pulls a version (0: the current) whole, and puts its chunks together: data by name.
  absl::StatusOr<std::map<std::string, std::string>> PullTensors(const std::string& model, uint64_t version = 0);

  // Any method by its full name, one message in, all that comes out one after the other: bytes as they are on the wire.
  absl::StatusOr<std::string> RawCall(const std::string& method, const std::string& request);

  // What grpc.health.v1 says of a service, which is a model's name or empty: true for SERVING, false for NOT_SERVING.
  absl::StatusOr<bool> Serving(const std::string& service);

 private:
  const std::string token_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WeightStream::Stub> stub_;
};

// A stub whose connection has a small window, and keeps it: the server cannot send ahead all that it reads, so that a
// reader that stops has the server stop.
std::unique_ptr<v1::WeightStream::Stub> SlowReaderStub(const std::string& address);

// Data by name, as PullTensors gives them.
std::map<std::string, std::string> DataOf(const std::vector<TestTensor>& tensors);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_CLIENT_H_
