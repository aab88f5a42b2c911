// What a peer can take without a single bad byte: threads, memory, time.
#include <grpcpp/grpcpp.h>

#include <atomic>
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

TEST(ServiceLimitsTest, StreamsLeaveThreadsForOtherCalls) {
  const TestServer server(Options(absl::Minutes(10)));
  const auto client = server.NewClient();
  // Twelve that are served, for as long as they are not cancelled.
  std::vector<std::unique_ptr<SilentStream>> pushes;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 5; ++i) {
    watches.push_back(std::make_unique<Watch>(*client));
    ASSERT_TRUE(watches.back()->Read()) << i;
  }
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {7}, 1)};
  const auto begun = client->Begin(BeginRequest("pushed", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  for (uint64_t i = 0; i < 7; ++i) {
    pushes.push_back(std::make_unique<SilentStream>(*client));
    ASSERT_TRUE(pushes.back()->writer->Write(ChunkOf(tensors[0], i, 1, begun->update_id())));
    ASSERT_TRUE(WaitFor([&] { return client->GetModel("pushed")->updates(0).open_streams() == i + 1; })) << i;
  }
  const absl::Status refused = SilentStream(*client).Finish();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "12 streams at a time")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "--max-threads")) << refused;
  // What is no stream has the other threads.
  EXPECT_TRUE(client->Commit("pushed", begun->update_id()).ok());
}

TEST(ServiceLimitsTest, OnePeerHasSoManyWatchesAndLeasesAndNoMore) {
  const TestServer server(Options(absl::Minutes(10)));
  const auto client = server.NewClient();
  std::vector<std::unique_ptr<Watch>> watches;
  // Half of twelve are for them, and five sixths of that for one peer.
  for (int i = 0; i < 5; ++i) {
    watches.push_back(std::make_unique<Watch>(*client));
    ASSERT_TRUE(watches.back()->Read()) << i;
  }
  Watch over(*client);
  EXPECT_FALSE(over.Read());
  const absl::Status refused = FromGrpcStatus(over.reader->Finish());
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "one peer 5 watches and leases")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "--max-threads")) << refused;
  EXPECT_TRUE(client->PushVersion("other", 1, {MakeTensor("t", DType::kU8, {9}, 1)}).ok()) << "updates have the others";
  watches.front()->context->TryCancel();
  EXPECT_TRUE(WaitFor([&] { return Watch(*client).Read(); })) << "one that ended made room";
}

// A push stream that is served, has brought a byte, and keeps its place.
struct Dripping {
  std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {1000}, 1)};
  std::string update;
  // Opened once there is a chunk for it: it would be cut soon.
  std::unique_ptr<SilentStream> stream;

  Dripping(TestClient& client, const std::string& model) {
    const auto begun = client.Begin(BeginRequest(model, 1, tensors));
    EXPECT_TRUE(begun.ok()) << begun.status();
    update = begun.ok() ? begun->update_id() : "";
    stream = std::make_unique<SilentStream>(client);
    EXPECT_TRUE(stream->writer->Write(ChunkOf(tensors[0], 0, 900, update)));
    EXPECT_TRUE(WaitFor([&] { return client.GetModel(model)->updates(0).landed_bytes() > 0; }));
  }
};

TEST(ServiceLimitsTest, ASlowStreamGivesWayToOneThatFindsNoPlace) {
  // A tenth of a second is looked at once a second.
  TestServerOptions options = Options(absl::Milliseconds(100));
  options.limits.peer_streams = 1;
  const TestServer server(options);
  const auto client = server.NewClient();
  Dripping slow(*client, "slow");
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {100}, 2)};
  const auto begun = client->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  absl::StatusOr<v1::PushResponse> pushed;
  EXPECT_TRUE(WaitFor([&] {
    pushed = client->Push(ChunksOf(tensors, 1000, begun->update_id()));
    EXPECT_TRUE(pushed.ok() || absl::IsResourceExhausted(pushed.status())) << pushed.status();
    return pushed.ok();
  })) << pushed.status();
  EXPECT_TRUE(client->Commit("m", begun->update_id()).ok());
  const absl::Status status = slow.stream->Finish();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "Push: another stream needed its place, and all 1 of 127.0.0.1"))
      << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "--least-kib-per-second")) << status;
  // It may come again, and its update has lost nothing.
  EXPECT_EQ(client->GetModel("slow")->updates(0).landed_bytes(), 900u);
}

TEST(ServiceLimitsTest, AStreamThatIsFastEnoughGivesNoWay) {
  TestServerOptions options = Options(absl::Seconds(2));
  options.limits.peer_streams = 1;
  options.limits.least_bytes_per_second = 1;
  const TestServer server(options);
  const auto client = server.NewClient();
  Dripping fast(*client, "fast");
  std::atomic<bool> enough{false};
  // The same bytes again: a stream is not slow for that its update gets nowhere.
  std::thread sender([&] {
    while (!enough && fast.stream->writer->Write(ChunkOf(fast.tensors[0], 0, 900, fast.update))) {
    }
  });
  const absl::Duration until = MonotonicNow() + absl::Seconds(7);
  while (MonotonicNow() < until) {
    EXPECT_EQ(SilentStream(*server.NewClient()).Finish().code(), StatusCode::kResourceExhausted);
  }
  enough = true;
  sender.join();
  fast.stream->writer->WritesDone();
  const absl::Status status = fast.stream->Finish();
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ServiceLimitsTest, AStreamThatTheServerHoldsBackIsNotSlow) {
  TestServerOptions options = Options(absl::Milliseconds(100));
  options.limits.peer_streams = 1;
  options.limits.peer_bytes_per_second = 1;
  const TestServer server(options);
  const auto client = server.NewClient();
  const Dripping held(*client, "held");
  const absl::Duration until = MonotonicNow() + absl::Seconds(3);
  while (MonotonicNow() < until) EXPECT_EQ(SilentStream(*client).Finish().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(client->GetModel("held")->updates(0).open_streams(), 1u);
}

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
  // Time enough for its own push, and for a look at what is held, on a busy machine.
  TestServer server(Options(absl::Seconds(4)));
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
