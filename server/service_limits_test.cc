// What a peer can take without a single bad byte: threads, memory, time.
#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_server.h"

namespace weightstream {
namespace {

using absl::StatusCode;

TestServerOptions Options(absl::Duration silent_call) {
  TestServerOptions options;
  options.limits.silent_call = silent_call;
  options.limits.bucket_bytes = 1 << 20;
  // Twelve of them are for streams.
  options.limits.threads = 16;
  return options;
}

// A Push stream that is open and says nothing.
struct SilentStream {
  std::unique_ptr<grpc::ClientContext> context = NewContext();
  v1::PushResponse response;
  std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> writer;

  explicit SilentStream(TestClient& client) { writer = client.stub().Push(context.get(), &response); }
  absl::Status Finish() { return FromGrpcStatus(writer->Finish()); }
};

TEST(ServiceLimitsTest, StreamsThatSayNothingAreCutWithTheCause) {
  const TestServer server(Options(absl::Milliseconds(100)));
  const auto client = server.NewClient();
  const absl::Status status = SilentStream(*client).Finish();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "Push: the other side was waited for")) << status;
}

TEST(ServiceLimitsTest, StreamsLeaveThreadsForOtherCalls) {
  const TestServer server(Options(absl::Minutes(10)));
  const auto client = server.NewClient();
  std::vector<std::unique_ptr<SilentStream>> silent;
  for (int i = 0; i < 13; ++i) silent.push_back(std::make_unique<SilentStream>(*client));
  // One of the thirteen is refused; which one is the server's affair. The others stay until they are cancelled.
  const auto begun = client->Begin(BeginRequest("m", 1, {}));
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_TRUE(client->Commit("m", begun->update_id()).ok());
  for (const auto& stream : silent) stream->context->TryCancel();
  int refused = 0;
  for (const auto& stream : silent) {
    const absl::Status status = stream->Finish();
    if (status.code() != StatusCode::kResourceExhausted) continue;
    EXPECT_TRUE(absl::StrContains(status.message(), "--max-threads")) << status;
    ++refused;
  }
  EXPECT_LE(refused, 1);
}

// Whether this process, and so the server in it, has a file under this path mapped.
bool IsMapped(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (absl::StrContains(line, path)) return true;
  }
  return false;
}

TEST(ServiceLimitsTest, AReaderThatStopsReadingIsCutAndHoldsNothing) {
  TestServer server(Options(absl::Milliseconds(200)));
  const auto client = server.NewClient();
  ASSERT_TRUE(client->PushVersion("m", 1, {MakeTensor("t", DType::kU8, {16 << 20}, 1)}).ok());
  // Without its probe gRPC takes no more than 64 KiB ahead of the reader.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto stub = v1::WeightStream::NewStub(
      grpc::CreateCustomChannel(server.server().address(), grpc::InsecureChannelCredentials(), arguments));
  const auto context = NewContext();
  v1::PullRequest request;
  request.set_model("m");
  const auto reader = stub->Pull(context.get(), request);
  v1::WeightChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  const std::string version = std::filesystem::canonical(server.data_dir()).string() + "/m/1/";
  ASSERT_TRUE(IsMapped(version));
  while (IsMapped(version)) ASSERT_LT(absl::Now(), deadline);
  while (reader->Read(&chunk)) {
  }
  const absl::Status status = FromGrpcStatus(reader->Finish());
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "Pull: the other side was waited for")) << status;
}

TEST(ServiceLimitsTest, CompressedMessagesAreRefusedBeforeTheyAreInflated) {
  const TestServer server(Options(absl::Seconds(30)));
  const auto client = server.NewClient();
  const auto context = NewContext();
  context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::BeginUpdateRequest request = BeginRequest("m", 1, {});
  (*request.mutable_metadata())["long"] = std::string(1 << 20, 'a');
  v1::BeginUpdateResponse response;
  const absl::Status status = FromGrpcStatus(client->stub().BeginUpdate(context.get(), request, &response));
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "gzip")) << status;
  EXPECT_TRUE(client->PushVersion("m", 1, {}).ok());
}

TEST(ServiceLimitsTest, ACommitCutsTheStreamsThatLinger) {
  const TestServer server(Options(absl::Minutes(10)));
  const auto client = server.NewClient();
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {100}, 1)};
  const auto begun = client->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  SilentStream lingering(*client);
  ASSERT_TRUE(lingering.writer->Write(ChunkOf(tensors[0], 0, 100, begun->update_id())));
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (client->GetModel("m")->updates(0).landed_bytes() < 100) ASSERT_LT(absl::Now(), deadline);
  ASSERT_TRUE(client->Commit("m", begun->update_id()).ok());
  const absl::Status status = lingering.Finish();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "committed")) << status;
}

}  // namespace
}  // namespace weightstream
