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
#include "tests/fuzz/called_methods.h"
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

  // Who makes the calls from now on; an admin at first.
  void set_caller(Caller caller) { caller_ = caller; }
  Caller caller() const { return caller_; }
  // Of a call by that caller, with a deadline: what passes it hangs.
  std::unique_ptr<grpc::ClientContext> NewContext() const;
  // As below, by the caller of now.
  absl::Status Checked(const grpc::Status& status, absl::string_view method) const;

 private:
  void Start();

  // Outlives the server.
  const TemporaryFolder folder_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WeightStream::Stub> stub_;
  Caller caller_ = Caller::kAdmin;
};

// Makes the calls as an admin for as long as it lives: what must hold is asked for by one who may ask.
class AsAdmin {
 public:
  explicit AsAdmin(FuzzedServer& server) : server_(server), before_(server.caller()) {
    server_.set_caller(Caller::kAdmin);
  }
  ~AsAdmin() { server_.set_caller(before_); }
  AsAdmin(const AsAdmin&) = delete;
  AsAdmin& operator=(const AsAdmin&) = delete;

 private:
  FuzzedServer& server_;
  const Caller before_;
};

// The status of a caller's call of a method, once it was found to be one that the service documents, with a readable
// message. It is a refusal of the caller if and only if the caller may not call that, unless what was asked is wrong as
// well; it is never a success then.
absl::Status CheckedStatus(const grpc::Status& status, Caller caller, absl::string_view method);

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
  // Who opened it.
  const Caller caller_;
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
