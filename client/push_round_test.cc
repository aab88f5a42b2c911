// What is on loan to gRPC while a round runs, and after.
#include "client/push_round.h"

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/begin_reply.h"
#include "client/fake_server.h"
#include "client/push_testing.h"
#include "client/raw_stream.h"
#include "proto/begin_codec.h"

namespace weightstream {
namespace {

// More than sockets and windows hold: a server that does not read must stop the client.
constexpr uint64_t kModelBytes = 64 << 20;
constexpr int kStreams = 2;
// Of gRPC: one that the caller waits for, one that the transport holds, and one being encoded.
constexpr uint64_t kMostOnLoanPerStream = 3;

class PushRoundTest : public testing::Test {
 protected:
  RoundResult Run(FakeServer& server) {
    const auto channel = grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials());
    grpc::ClientContext call;
    v1::BeginUpdateResponse begun;
    const grpc::Slice manifest = EncodeManifest(source_->tensors(), context_.index.layout_order());
    const BeginMessage message = MakeBeginMessage(*source_, manifest, "m", 1, options_.bucket_limit_bytes);
    EXPECT_TRUE(CallRawBegin(*channel, call, message.bytes, begun).ok());
    const Missing missing = CheckBeginReply(begun, context_.index).value();
    absl::optional<ChunkPlan> plan;
    if (missing.everything) {
      plan.emplace(context_.index, begun.bucket_limit_bytes(), begun.takes_packed_chunks());
    } else {
      plan.emplace(source_->tensors(), missing.tensors, begun.bucket_limit_bytes(), begun.takes_packed_chunks());
    }
    return RunPushRound(context_, server.address(), begun.update_id(), /*traceparent=*/"", *plan,
                        {.connections = context_.connections}, stop_, watch_, counters_);
  }

  const TestModel model_{kModelBytes};
  const std::unique_ptr<WeightSource> source_ = model_.Source();
  const PushOptions options_ = TestOptions();
  Wakeup wakeup_;
  const PushContext context_{*source_,
                             options_,
                             ManifestIndex(source_->tensors()),
                             ManifestChecksum(source_->metadata()),
                             model_.total_bytes(),
                             /*servers_here=*/1,
                             kStreams,
                             options_.bucket_limit_bytes,
                             std::make_shared<BorrowCounter>(),
                             ClientCredentials::Plaintext(),
                             wakeup_};
  StopSignal stop_;
  StallWatch watch_;
  TransferCounters counters_;
};

TEST_F(PushRoundTest, OnlyAFewChunksAreOnLoanAtATime) {
  std::atomic<uint64_t> most = 0;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const grpc::ServerContext&, v1::WeightChunk&, int number) {
    // A server that is slow to begin: the client must wait, not pile up.
    const absl::Time end = absl::Now() + absl::Seconds(30);
    const absl::Notification never;
    while (number == 0 && context_.borrows->outstanding() == 0 && absl::Now() < end) {
      never.WaitForNotificationWithTimeout(absl::Milliseconds(1));
    }
    most = std::max(most.load(), context_.borrows->outstanding());
    return absl::OkStatus();
  };
  FakeServer server(hooks);
  const RoundResult result = Run(server);
  EXPECT_TRUE(result.complete) << result.cause;
  EXPECT_GT(most.load(), 0u);
  EXPECT_LE(most.load(), kStreams * kMostOnLoanPerStream);
  EXPECT_TRUE(context_.borrows->WaitUntilReturned(absl::Seconds(30)));
  EXPECT_EQ(counters_.sent_bytes.load(), model_.total_bytes());
}

TEST_F(PushRoundTest, EverythingIsReturnedAfterAStopInTheMiddle) {
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const grpc::ServerContext& context, v1::WeightChunk&, int) {
    stop_.Stop(absl::AbortedError("stop"));
    FakeServer::WaitUntilCancelled(context);
    return absl::CancelledError("gone");
  };
  FakeServer server(hooks);
  const RoundResult result = Run(server);
  EXPECT_FALSE(result.complete);
  EXPECT_EQ(result.cause, absl::AbortedError("stop"));
  EXPECT_TRUE(context_.borrows->WaitUntilReturned(absl::Seconds(30)));
}

}  // namespace
}  // namespace weightstream
