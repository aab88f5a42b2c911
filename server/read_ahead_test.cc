// What a message that was asked for ahead does, and that it is in nobody's way when its stream ends without it.
#include "server/read_ahead.h"

#include <grpc/grpc.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_server.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

using absl::StatusCode;

// What a stream takes of messages that nobody has asked for, and a message that is several times as large.
constexpr uint64_t kWindowBytes = Limits().window_bytes;
constexpr uint64_t kChunkBytes = 16 * kWindowBytes;
// See Limits::window_bytes.
static_assert(kWindowBytes < 65535 / 2);
constexpr int kThreads = 16;

TestServerOptions Options() {
  TestServerOptions options;
  options.limits.bucket_bytes = kChunkBytes;
  options.limits.threads = kThreads;
  return options;
}

// Each chunk keeps its stream's thread for days, and with it from the next.
TestServerOptions HeldBack() {
  TestServerOptions options = Options();
  options.limits.peer_bytes_per_second = 1;
  return options;
}

// One update, and streams that feed it.
class ReadAheadTest : public testing::Test {
 protected:
  // For as long as the process lives: where the last of a test's gRPC objects is the last of all, gRPC 1.51 was seen to
  // wait ten seconds for a thread that polls sockets on its behalf.
  static void SetUpTestSuite() { grpc_init(); }

  void Start(const TestServerOptions& options) {
    server_ = std::make_unique<TestServer>(options);
    client_ = server_->NewClient();
    const auto begun = client_->Begin(BeginRequest("m", 1, tensors_));
    ASSERT_TRUE(begun.ok()) << begun.status();
    update_id_ = begun->update_id();
  }

  v1::WeightChunk Chunk(int index) const {
    return ChunkOf(tensors_[0], index * kChunkBytes, kChunkBytes, index == 0 ? update_id_ : "");
  }
  uint64_t LandedBytes() const { return client_->GetModel("m")->updates(0).landed_bytes(); }
  uint64_t OpenStreams() const { return client_->GetModel("m")->updates(0).open_streams(); }

  const std::vector<TestTensor> tensors_ = {MakeTensor("t", DType::kU8, {8 * kChunkBytes}, 1)};
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<TestClient> client_;
  std::string update_id_;
};

struct OpenStream {
  const std::unique_ptr<grpc::ClientContext> context;
  v1::PushResponse response;
  const std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> writer;

  explicit OpenStream(TestClient& client, std::unique_ptr<grpc::ClientContext> with = NewContext())
      : context(std::move(with)), writer(client.stub().Push(context.get(), &response)) {}
  bool Write(const v1::WeightChunk& chunk) { return writer->Write(chunk); }
  // What the server says of its own accord.
  absl::Status AwaitEnd() { return FromGrpcStatus(writer->Finish()); }
};

TEST_F(ReadAheadTest, TheNextMessageComesWhileTheLastOneIsDealtWith) {
  ASSERT_NO_FATAL_FAILURE(Start(HeldBack()));
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0)));
  ASSERT_TRUE(WaitFor([&] { return LandedBytes() == kChunkBytes; }));
  // Returns when the last byte is on its way, or fails at the call's deadline.
  EXPECT_TRUE(stream.Write(Chunk(1)));
  EXPECT_EQ(LandedBytes(), kChunkBytes);
  stream.context->TryCancel();
  EXPECT_EQ(stream.AwaitEnd().code(), StatusCode::kCancelled);
  EXPECT_TRUE(WaitFor([&] { return OpenStreams() == 0; }));
}

TEST_F(ReadAheadTest, ItIsOneMessageAndNoMore) {
  ASSERT_NO_FATAL_FAILURE(Start(HeldBack()));
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  OpenStream stream(*client_, std::move(context));
  int written = 0;
  while (written < 8 && stream.Write(Chunk(written))) ++written;
  EXPECT_LE(written, 2);
  EXPECT_EQ(stream.AwaitEnd().code(), StatusCode::kDeadlineExceeded);
}

TEST_F(ReadAheadTest, ABadChunkEndsItsStreamWhateverFollows) {
  ASSERT_NO_FATAL_FAILURE(Start(Options()));
  // More often than there are threads: none may stay behind.
  for (int round = 0; round < 3 * kThreads; ++round) {
    OpenStream stream(*client_);
    v1::WeightChunk bad = Chunk(0);
    bad.mutable_data()->front() ^= 1;
    // One that has nothing behind it, one with what the windows take, one with more.
    bool open = stream.Write(bad);
    for (int more = 0; open && more < round % 3; ++more) open = stream.Write(Chunk(1 + more));
    const absl::Status status = stream.AwaitEnd();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "'t'")) << status;
  }
  EXPECT_TRUE(WaitFor([&] { return OpenStreams() == 0; }));
  EXPECT_EQ(LandedBytes(), 0u);
  ASSERT_TRUE(client_->Push(ChunksOf(tensors_, kChunkBytes, update_id_)).ok());
  ASSERT_TRUE(client_->Commit("m", update_id_).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(tensors_));
}

TEST_F(ReadAheadTest, AnAbortDropsTheMessageThatHasCome) {
  ASSERT_NO_FATAL_FAILURE(Start(HeldBack()));
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0)));
  ASSERT_TRUE(stream.Write(Chunk(1)));
  ASSERT_TRUE(WaitFor([&] { return LandedBytes() == kChunkBytes; }));
  ASSERT_TRUE(client_->Abort("m", update_id_, "enough").ok());
  const absl::Status status = stream.AwaitEnd();
  EXPECT_EQ(status.code(), StatusCode::kAborted) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "enough")) << status;
  EXPECT_TRUE(WaitFor([&] { return OpenStreams() == 0; }));
  EXPECT_EQ(LandedBytes(), kChunkBytes);
}

TEST_F(ReadAheadTest, APeerThatGoesAwayFreesItsThread) {
  ASSERT_NO_FATAL_FAILURE(Start(HeldBack()));
  const auto other = server_->NewClient();
  for (int round = 0; round < 2 * kThreads; ++round) {
    OpenStream stream(*other);
    // The second is cut in the middle, or has not begun to come.
    stream.Write(Chunk(0));
    if (round % 2 == 0) stream.Write(Chunk(1));
    stream.context->TryCancel();
    EXPECT_EQ(stream.AwaitEnd().code(), StatusCode::kCancelled);
  }
  EXPECT_TRUE(WaitFor([&] { return OpenStreams() == 0; }));
  EXPECT_TRUE(client_->Abort("m", update_id_, "").ok());
}

TEST_F(ReadAheadTest, AShutdownWaitsForNoMessage) {
  ASSERT_NO_FATAL_FAILURE(Start(HeldBack()));
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0)));
  ASSERT_TRUE(stream.Write(Chunk(1)));
  ASSERT_TRUE(WaitFor([&] { return LandedBytes() == kChunkBytes; }));
  server_->server().Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(stream.AwaitEnd().ok());
}

}  // namespace
}  // namespace weightstream
