// Pushing to one server that behaves.
#include "client/push.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "client/defaults.h"
#include "client/fake_server.h"
#include "client/push_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kModelBytes = 6 << 20;

TEST(PushTest, EveryByteArrivesAndTheVersionBecomesCurrent) {
  const TestModel model(kModelBytes);
  FakeServer server;
  const auto result = Push(*model.Source(), {server.address()}, TestOptions());
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->version, 1u);
  EXPECT_EQ(result->total_bytes, model.total_bytes());
  EXPECT_EQ(result->tensors, model.specs().size());
  const ServerOutcome& outcome = result->servers.at(0);
  EXPECT_EQ(outcome.server, server.address());
  EXPECT_EQ(outcome.sent_bytes, model.total_bytes());
  EXPECT_EQ(outcome.resumed_bytes, 0u);
  EXPECT_EQ(outcome.retries, 0);
  EXPECT_EQ(outcome.path, "/fake/m/1");
  EXPECT_EQ(server.current_version("m"), 1u);
  EXPECT_EQ(server.landed_bytes(), model.total_bytes());
  model.ExpectHeldBy(server);
}

TEST(PushTest, AnOlderServerListsWhatItMissesAndGetsAll) {
  const TestModel model(kModelBytes);
  FakeServer::Hooks hooks;
  hooks.on_begin = [](const grpc::ServerContext&, v1::BeginUpdateRequest& request) {
    request.set_takes_everything_missing(false);
    return absl::OkStatus();
  };
  hooks.on_begun = [](v1::BeginUpdateResponse& reply) { EXPECT_GT(reply.missing_size(), 0); };
  FakeServer server(hooks);
  const auto result = Push(*model.Source(), {server.address()}, TestOptions());
  ASSERT_TRUE(result->status.ok()) << result->status;
  model.ExpectHeldBy(server);
}

TEST(PushTest, SmallTensorsArePackedOnlyForAServerThatTakesIt) {
  const TestModel model(kModelBytes);
  for (const bool takes : {false, true}) {
    std::atomic<int> packed{0};
    FakeServer::Hooks hooks;
    hooks.on_begun = [takes](v1::BeginUpdateResponse& reply) { reply.set_takes_packed_chunks(takes); };
    hooks.on_chunk = [&packed](const grpc::ServerContext&, v1::WeightChunk& chunk, int) {
      packed += chunk.followed_by_size();
      return absl::OkStatus();
    };
    FakeServer server(hooks);
    const auto result = Push(*model.Source(), {server.address()}, TestOptions());
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->status.ok()) << result->status;
    EXPECT_EQ(packed > 0, takes);
    EXPECT_EQ(result->servers.at(0).sent_bytes, model.total_bytes());
    model.ExpectHeldBy(server);
  }
}

TEST(PushTest, EveryConnectionIsUsed) {
  const TestModel model(kModelBytes);
  absl::Mutex mutex;
  std::set<std::string> seen;
  // Lest the first connections take everything before the last is there.
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const grpc::ServerContext& context, v1::WeightChunk&, int) {
    absl::MutexLock lock(&mutex);
    seen.insert(context.peer());
    const auto all_here = [&seen] { return seen.size() >= 3; };
    if (mutex.AwaitWithTimeout(absl::Condition(&all_here), absl::Seconds(20))) return absl::OkStatus();
    return absl::FailedPreconditionError("a connection has not come");
  };
  FakeServer server(hooks);
  PushOptions options = TestOptions();
  options.connections = 3;
  options.limits.stall = absl::Seconds(30);
  const auto result = Push(*model.Source(), {server.address()}, options);
  ASSERT_TRUE(result->status.ok()) << result->status;
  // A busy machine may look far away, and each connection then has several streams.
  const std::vector<std::string> peers = server.stream_peers();
  EXPECT_EQ(std::set<std::string>(peers.begin(), peers.end()).size(), 3u);
}

TEST(PushTest, NoStreamIsOpenedForNothing) {
  const TestModel model(1 << 20);
  PushOptions options = TestOptions();
  options.connections = 16;
  for (int i = 0; i < 20; ++i) {
    FakeServer server;
    const auto result = Push(*model.Source(), {server.address()}, options);
    ASSERT_TRUE(result->status.ok()) << result->status;
    EXPECT_EQ(server.empty_streams(), 0);
    EXPECT_EQ(result->servers[0].retries, 0);
    model.ExpectHeldBy(server);
  }
}

TEST(PushTest, ChunksKeepTheSmallerOfBothLimits) {
  const TestModel model(1 << 20);
  FakeServer server({}, /*bucket_limit_bytes=*/10'000);
  PushOptions options = TestOptions();
  options.bucket_limit_bytes = 0;
  ASSERT_TRUE(Push(*model.Source(), {server.address()}, options)->status.ok());
  for (const FakeServer::LandedChunk& chunk : server.landed()) EXPECT_LE(chunk.range.size(), 10'000u);
  model.ExpectHeldBy(server);
}

// One connection keeps one processor busy with its two ends, and not two.
TEST(PushTest, ChunksAreSmallerWhereThereIsOneProcessorForBothEnds) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "there is one processor only";
  const auto largest_chunk = [] {
    const TestModel model(kModelBytes);
    FakeServer server;
    PushOptions options = TestOptions();
    options.bucket_limit_bytes = 0;
    options.connections = 1;
    EXPECT_TRUE(Push(*model.Source(), {server.address()}, options)->status.ok());
    uint64_t largest = 0;
    for (const FakeServer::LandedChunk& chunk : server.landed()) largest = std::max(largest, chunk.range.size());
    return largest;
  };
  EXPECT_GT(largest_chunk(), kPairedChunkBytes);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_LE(largest_chunk(), kPairedChunkBytes);
  ASSERT_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
}

TEST(PushTest, AnEmptyModelIsAVersion) {
  FakeServer server;
  const auto source = NewMemorySource({});
  const auto result = Push(**source, {server.address()}, TestOptions());
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(server.current_version("m"), 1u);
  EXPECT_TRUE(server.stream_peers().empty());
}

TEST(PushTest, TheSourcesMemoryMayBeFreedOnReturn) {
  // AddressSanitizer, or the comparison, would see a late read.
  FakeServer server;
  auto model = std::make_unique<TestModel>(kModelBytes);
  const TestModel copy(kModelBytes);
  ASSERT_TRUE(Push(*model->Source(), {server.address()}, TestOptions())->status.ok());
  model.reset();
  copy.ExpectHeldBy(server);
}

TEST(PushTest, ChoosesTheNextVersion) {
  const TestModel model(1 << 20);
  FakeServer server;
  PushOptions options = TestOptions();
  options.version = 0;
  EXPECT_EQ(Push(*model.Source(), {server.address()}, options)->version, 1u);
  options.version = 41;
  EXPECT_EQ(Push(*model.Source(), {server.address()}, options)->version, 41u);
  options.version = 0;
  const auto result = Push(*model.Source(), {server.address()}, options);
  EXPECT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->version, 42u);
  EXPECT_EQ(server.current_version("m"), 42u);
}

TEST(PushTest, ACommittedVersionIsAnErrorThatNamesTheServer) {
  const TestModel model(1 << 20);
  FakeServer server;
  ASSERT_TRUE(Push(*model.Source(), {server.address()}, TestOptions())->status.ok());
  const auto result = Push(*model.Source(), {server.address()}, TestOptions());
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(result->status)) << result->status;
  EXPECT_TRUE(absl::StartsWith(result->status.message(), server.address() + ": ")) << result->status;
}

TEST(PushTest, ReachesAServerThroughAnyFormOfAddress) {
  const TestModel model(1 << 20);
  const FakeServer server;
  const std::string port = std::to_string(server.port());
  PushOptions options = TestOptions();
  for (const std::string& address : {"localhost:" + port, "dns:///localhost:" + port, server.unix_address()}) {
    const auto result = Push(*model.Source(), {address}, options);
    EXPECT_TRUE(result->status.ok()) << result->status;
    ++options.version;
  }
}

TEST(PushTest, ProgressComesFromTheCallingThreadAndEndsComplete) {
  const TestModel model(kModelBytes);
  FakeServer server;
  std::vector<PushPhase> phases;
  PushProgress last;
  const std::thread::id caller = std::this_thread::get_id();
  const auto result = Push(*model.Source(), {server.address()}, TestOptions(), [&](const PushProgress& progress) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(progress.server, server.address());
    if (phases.empty() || phases.back() != progress.phase) phases.push_back(progress.phase);
    last = progress;
  });
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(phases, (std::vector<PushPhase>{PushPhase::kConnecting, PushPhase::kBeginning, PushPhase::kSending,
                                            PushPhase::kWaiting, PushPhase::kCommitting, PushPhase::kDone}));
  EXPECT_EQ(last.sent_bytes, model.total_bytes());
  EXPECT_EQ(last.total_bytes, model.total_bytes());
  EXPECT_EQ(last.version, 1u);
}

TEST(PushTest, RefusesBadOptionsBeforeItConnects) {
  const TestModel model(0);
  const auto source = model.Source();
  const auto code = [&](const std::vector<std::string>& servers, const auto& change) {
    PushOptions options = TestOptions();
    change(options);
    return Push(*source, servers, options).status().code();
  };
  const auto same = [](PushOptions&) {};
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({}, same), bad);
  EXPECT_EQ(code({"a:1", "b:1", "a:1"}, same), bad);
  EXPECT_EQ(code({"nonsense"}, same), bad);
  EXPECT_EQ(code(std::vector<std::string>(257, "a:1"), same), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.model = "../m"; }), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.connections = -1; }), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.connections = 65; }), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.max_attempts = 0; }), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.bucket_limit_bytes = ~uint64_t{0}; }), bad);
  EXPECT_EQ(code({"a:1"}, [](PushOptions& options) { options.limits.stall = absl::ZeroDuration(); }), bad);
}

}  // namespace
}  // namespace weightstream
