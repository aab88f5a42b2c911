// What a peer can take without a single bad byte: threads, memory, time.
#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/monotonic_clock.h"

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

// A stream that the server serves: its first message has come.
struct Watch {
  std::unique_ptr<grpc::ClientContext> context = NewContext();
  std::unique_ptr<grpc::ClientReader<v1::Model>> reader;
  v1::Model model;

  explicit Watch(TestClient& client) {
    v1::WatchModelRequest request;
    request.set_model("m");
    reader = client.stub().WatchModel(context.get(), request);
  }
  bool Read() { return reader->Read(&model); }
};

TEST(ServiceLimitsTest, APeerHasSoManyStreamsAndNoMore) {
  TestServerOptions options = Options(absl::Minutes(10));
  options.limits.peer_streams = 3;
  const TestServer server(options);
  // Of several connections: it is the peer that counts.
  const auto clients = {server.NewClient(), server.NewClient()};
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 3; ++i) {
    watches.push_back(std::make_unique<Watch>(**(clients.begin() + i % 2)));
    ASSERT_TRUE(watches.back()->Read()) << i;
  }
  TestClient& client = **clients.begin();
  const absl::Status refused = SilentStream(client).Finish();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "127.0.0.1 has as many")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "--max-peer-streams")) << refused;
  EXPECT_TRUE(client.Begin(BeginRequest("m", 1, {})).ok()) << "what is no stream is not counted";
  watches.front()->context->TryCancel();
  EXPECT_TRUE(WaitFor([&] { return Watch(client).Read(); })) << "one that ended made room";
}

TEST(ServiceLimitsTest, APeersRateIsThatOfAllItsStreamsTogether) {
  TestServerOptions options = Options(absl::Seconds(30));
  options.limits.peer_bytes_per_second = 1 << 20;
  const TestServer server(options);
  const auto client = server.NewClient();
  const std::vector<TestTensor> tensors = {MakeTensor("a", DType::kU8, {1 << 20}, 1),
                                           MakeTensor("b", DType::kU8, {1 << 20}, 2)};
  const auto begun = client->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  const absl::Duration start = MonotonicNow();
  std::vector<std::thread> streams;
  for (const TestTensor& tensor : tensors) {
    streams.emplace_back([&server, &begun, &tensor] {
      const auto pushed = server.NewClient()->Push(ChunksOf({tensor}, 128 << 10, begun->update_id()));
      EXPECT_TRUE(pushed.ok()) << pushed.status();
    });
  }
  for (std::thread& stream : streams) stream.join();
  // A second's worth of two was saved, the other one had to be waited for.
  EXPECT_GE(MonotonicNow() - start, absl::Seconds(1));
  ASSERT_TRUE(client->Commit("m", begun->update_id()).ok());
  const absl::Duration pulling = MonotonicNow();
  EXPECT_EQ(client->PullTensors("m").value(), DataOf(tensors));
  EXPECT_GE(MonotonicNow() - pulling, absl::Seconds(1)) << "reading is bounded as well";
}

TEST(ServiceLimitsTest, AStreamThatIsHeldBackEndsAtOnceWithItsUpdate) {
  TestServerOptions options = Options(absl::Minutes(10));
  // A chunk would take days.
  options.limits.peer_bytes_per_second = 1;
  const TestServer server(options);
  const auto client = server.NewClient();
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {1 << 20}, 1)};
  const auto begun = client->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  SilentStream held(*client);
  ASSERT_TRUE(held.writer->Write(ChunkOf(tensors[0], 0, 1 << 19, begun->update_id())));
  ASSERT_TRUE(WaitFor([&] { return client->GetModel("m")->updates(0).landed_bytes() > 0; }));
  ASSERT_TRUE(client->Abort("m", begun->update_id(), "enough").ok());
  const absl::Status status = held.Finish();
  EXPECT_EQ(status.code(), StatusCode::kAborted) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "enough")) << status;
}

TEST(ServiceLimitsTest, AManifestMayHaveSoManyBytesAndNoMore) {
  TestServerOptions options;
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {1}, 1)};
  options.limits.manifest_bytes = BeginRequest("m", 1, tensors).ByteSizeLong();
  const TestServer server(options);
  const auto client = server.NewClient();
  EXPECT_TRUE(client->Begin(BeginRequest("m", 1, tensors)).ok());
  const absl::Status over = client->Begin(BeginRequest("mm", 1, tensors)).status();
  EXPECT_EQ(over.code(), StatusCode::kResourceExhausted) << over;
  EXPECT_TRUE(absl::StrContains(over.message(), "--max-manifest-mib")) << over;
}

TEST(ServiceLimitsTest, AManifestMayHaveSoManyTensorsAndAVersionSoManyBytes) {
  TestServerOptions options;
  options.limits.manifest_tensors = 2;
  options.limits.model_bytes = 20;
  const TestServer server(options);
  const auto client = server.NewClient();
  const auto begin = [&](const std::vector<uint64_t>& sizes) {
    std::vector<TestTensor> tensors;
    for (const uint64_t size : sizes)
      tensors.push_back(MakeTensor(absl::StrCat(tensors.size()), DType::kU8, {size}, 1));
    return client->Begin(BeginRequest("m", 1, tensors)).status();
  };
  EXPECT_TRUE(begin({10, 10}).ok());
  const absl::Status tensors = begin({1, 1, 1});
  EXPECT_EQ(tensors.code(), StatusCode::kResourceExhausted) << tensors;
  EXPECT_TRUE(absl::StrContains(tensors.message(), "--max-manifest-tensors")) << tensors;
  const absl::Status bytes = begin({10, 11});
  EXPECT_EQ(bytes.code(), StatusCode::kResourceExhausted) << bytes;
  EXPECT_TRUE(absl::StrContains(bytes.message(), "--max-model-gib")) << bytes;
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
