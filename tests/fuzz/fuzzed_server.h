// A real server in the fuzzer's own process, on a unix socket and a folder of its own, and a client of it that holds
// each answer against what the .proto promises of every call.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_FUZZED_SERVER_H_
#define WEIGHTSTREAM_TESTS_FUZZ_FUZZED_SERVER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/server.h"
#include "tests/fuzz/temporary_folder.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {

// Most payload bytes in a chunk, and most bytes of a version: small, so that an input reaches both.
inline constexpr uint64_t kFuzzBucketBytes = 4 << 10;
inline constexpr uint64_t kFuzzModelBytes = 1 << 20;
inline constexpr uint64_t kFuzzKeepVersions = 2;

// Not thread-safe.
class FuzzedServer {
 public:
  FuzzedServer();

  // Stops the server and starts it on the same folder. Every call must have been finished or cancelled.
  void Restart();

  v1::WeightStream::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  std::string data_dir() const { return (folder_.path() / "data").string(); }

 private:
  void Start();

  // Outlives the server.
  const TemporaryFolder folder_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WeightStream::Stub> stub_;
};

// With a deadline: what passes it hangs.
std::unique_ptr<grpc::ClientContext> NewFuzzContext();

// A call's status, once it was found to be one that the service documents, with a readable message. `what` names the
// call in the report.
absl::Status CheckedStatus(const grpc::Status& status, absl::string_view what);

// One Push stream whose messages are bytes. Cancelled on destruction unless finished.
class FuzzedPush {
 public:
  explicit FuzzedPush(FuzzedServer& server);
  ~FuzzedPush();
  FuzzedPush(const FuzzedPush&) = delete;
  FuzzedPush& operator=(const FuzzedPush&) = delete;

  // False once the server takes no more.
  bool Write(absl::string_view message);
  absl::Status Finish();

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<grpc::ClientContext> context_;
  v1::PushResponse response_;
  std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> writer_;
};

// Sends the bytes as the one request of any method, and appends what comes back to `answer`. A call that has no end of
// its own is cancelled after its first answer. Returns how it ended, which must not be that the server hangs or is
// gone.
grpc::Status RawCall(FuzzedServer& server, const std::string& method, absl::string_view request, std::string* answer);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_FUZZED_SERVER_H_
