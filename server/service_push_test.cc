// What a push stream may and may not do, and what ends it.
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ServicePushTest : public testing::Test {
 protected:
  ServicePushTest() {
    const auto begun = client_->Begin(BeginRequest("m", 1, {tensor_}));
    EXPECT_TRUE(begun.ok()) << begun.status();
    if (begun.ok()) update_id_ = begun->update_id();
  }

  v1::WeightChunk Chunk(uint64_t offset, const std::string& update_id) const {
    return ChunkOf(tensor_, offset, 100, update_id);
  }

  uint64_t LandedBytes() const { return client_->GetModel("m")->updates(0).landed_bytes(); }

  TestServer server_;
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
  const TestTensor tensor_ = MakeTensor("t", DType::kU8, {2000}, 1);
  std::string update_id_;
};

// A stream that a test writes to step by step.
class OpenStream {
 public:
  explicit OpenStream(TestClient& client)
      : context_(NewContext()), writer_(client.stub().Push(context_.get(), &response_)) {}

  bool Write(const v1::WeightChunk& chunk) { return writer_->Write(chunk); }
  grpc::ClientContext& context() { return *context_; }
  absl::Status Finish() {
    writer_->WritesDone();
    return FromGrpcStatus(writer_->Finish());
  }
  // Without an end of ours: what the server says of its own accord.
  absl::Status AwaitEnd() { return FromGrpcStatus(writer_->Finish()); }
  const v1::PushResponse& response() const { return response_; }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  v1::PushResponse response_;
  const std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> writer_;
};

TEST_F(ServicePushTest, OnlyTheFirstChunkMustNameTheUpdate) {
  const auto pushed = client_->Push({Chunk(0, update_id_), Chunk(100, ""), Chunk(200, update_id_), Chunk(300, "")});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->chunks(), 4u);
  EXPECT_EQ(pushed->bytes(), 400u);
  EXPECT_EQ(pushed->missing_bytes(), 1600u);
}

TEST_F(ServicePushTest, AFirstChunkWithoutUpdateIdIsRefused) {
  ExpectError(client_->Push({Chunk(0, "")}).status(), StatusCode::kInvalidArgument,
              {"first chunk has no update_id", "BeginUpdate"});
}

TEST_F(ServicePushTest, AStreamBelongsToOneUpdate) {
  const auto other = client_->Begin(BeginRequest("n", 1, {tensor_}));
  ASSERT_TRUE(other.ok());
  ExpectError(client_->Push({Chunk(0, update_id_), Chunk(100, other->update_id())}).status(),
              StatusCode::kInvalidArgument, {"another update", update_id_});
  EXPECT_EQ(LandedBytes(), 100u);
  EXPECT_EQ(client_->GetModel("n")->updates(0).landed_bytes(), 0u);
}

// A sender with a queue of work opens its streams first: one of them may find nothing left to bring.
TEST_F(ServicePushTest, AStreamWithoutAChunkIsAnsweredWithNothing) {
  const auto pushed = client_->Push({});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->chunks(), 0u);
  EXPECT_EQ(pushed->bytes(), 0u);
  EXPECT_EQ(LandedBytes(), 0u);
}

TEST_F(ServicePushTest, DuplicatesAreCountedAndHarmless) {
  const auto pushed = client_->Push({Chunk(0, update_id_), Chunk(0, ""), Chunk(50, "")});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->bytes(), 300u);
  EXPECT_EQ(pushed->missing_bytes(), 1850u);
}

TEST_F(ServicePushTest, OpenStreamsAndProgressShow) {
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0, update_id_)));
  EXPECT_TRUE(WaitFor([&] { return LandedBytes() == 100; }));
  EXPECT_EQ(client_->GetModel("m")->updates(0).open_streams(), 1u);
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(client_->GetModel("m")->updates(0).open_streams(), 0u);
}

TEST_F(ServicePushTest, ACancelledStreamCostsNothingThatLanded) {
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0, update_id_)));
  EXPECT_TRUE(WaitFor([&] { return LandedBytes() == 100; }));
  stream.context().TryCancel();
  EXPECT_EQ(stream.AwaitEnd().code(), StatusCode::kCancelled);
  EXPECT_TRUE(WaitFor([&] { return client_->GetModel("m")->updates(0).open_streams() == 0; }));
  EXPECT_EQ(LandedBytes(), 100u);
  ASSERT_TRUE(client_->Push(ChunksOf({tensor_}, 1000, update_id_)).ok());
  EXPECT_TRUE(client_->Commit("m", update_id_).ok());
}

TEST_F(ServicePushTest, ASupersededStreamIsAbortedAtItsNextChunk) {
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0, update_id_)));
  EXPECT_TRUE(WaitFor([&] { return LandedBytes() == 100; }));
  std::thread newer([&] { EXPECT_TRUE(server_.NewClient()->Begin(BeginRequest("m", 2, {tensor_})).ok()); });
  while (stream.Write(Chunk(100, ""))) continue;
  ExpectError(stream.AwaitEnd(), StatusCode::kAborted, {update_id_, "superseded by an update to version 2"});
  newer.join();
}

TEST_F(ServicePushTest, ASupersededStreamThatSendsNothingIsAbortedToo) {
  OpenStream stream(*client_);
  ASSERT_TRUE(stream.Write(Chunk(0, update_id_)));
  EXPECT_TRUE(WaitFor([&] { return LandedBytes() == 100; }));
  EXPECT_TRUE(server_.NewClient()->Begin(BeginRequest("m", 2, {tensor_})).ok());
  ExpectError(stream.AwaitEnd(), StatusCode::kAborted, {update_id_, "superseded by an update to version 2"});
}

TEST_F(ServicePushTest, ChunksOfAnAbortedUpdateLearnWhy) {
  ASSERT_TRUE(client_->Abort("m", update_id_, "the trainer went away").ok());
  ExpectError(client_->Push({Chunk(0, update_id_)}).status(), StatusCode::kAborted, {"the trainer went away"});
}

TEST_F(ServicePushTest, AVeryLongReasonIsCut) {
  ASSERT_TRUE(client_->Abort("m", update_id_, std::string(5000, 'r')).ok());
  EXPECT_LE(client_->GetModel("m")->updates(0).reason().size(), 1100u);
}

TEST_F(ServicePushTest, AnIdleUpdateIsAbortedAndItsStreamCut) {
  TestServerOptions options;
  options.limits.idle_update = absl::Milliseconds(50);
  TestServer server(options);
  const auto client = server.NewClient();
  const auto begun = client->Begin(BeginRequest("m", 1, {tensor_}));
  ASSERT_TRUE(begun.ok());
  OpenStream stream(*client);
  ASSERT_TRUE(stream.Write(Chunk(0, begun->update_id())));
  ExpectError(stream.AwaitEnd(), StatusCode::kAborted, {"no chunk for 50ms", "--idle-update-seconds"});
  EXPECT_EQ(client->GetModel("m")->updates(0).state(), v1::UPDATE_STATE_ABORTED);
}

}  // namespace
}  // namespace weightstream
