// Pushing to one server while the path or the server fails in the middle.
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "client/fake_server.h"
#include "client/flaky_proxy.h"
#include "client/push.h"
#include "client/push_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kModelBytes = 6 << 20;

// Only root could serve there, and nobody does.
constexpr char kNobody[] = "127.0.0.1:1";

using Context = grpc::ServerContext;

// A chunk hook that fails the chunks for which `when` says so.
template <typename When>
FakeServer::Hooks FailChunks(absl::Status status, When when) {
  FakeServer::Hooks hooks;
  hooks.on_chunk = [status, when](const Context&, v1::WeightChunk&, int number) {
    return when(number) ? status : absl::OkStatus();
  };
  return hooks;
}

ServerOutcome PushTo(const std::string& address, const TestModel& model, const PushOptions& options = TestOptions()) {
  const auto result = Push(*model.Source(), {address}, options);
  EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status.ok(), result->servers.at(0).status.ok());
  return result->servers.at(0);
}

TEST(PushFailureTest, ALostConnectionCostsOnlyTheChunksInFlight) {
  const TestModel model(kModelBytes);
  FakeServer server;
  FlakyProxy proxy(server.port());
  proxy.CutAfter(1 << 20, /*times=*/3);
  const ServerOutcome outcome = PushTo(proxy.address(), model);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(proxy.cuts(), 3);
  EXPECT_GE(outcome.retries, 1);
  model.ExpectHeldBy(server);
  // A chunk lands twice only if it was under way on a connection that was lost after it had landed.
  EXPECT_LT(server.landed_bytes(), model.total_bytes() + (2 << 20));
}

// A connection that finds everything dealt out knows nothing of what has landed.
TEST(PushFailureTest, AConnectionWithoutWorkDoesNotMakeARoundComplete) {
  const TestModel model(1 << 20);
  PushOptions options = TestOptions();
  options.connections = 16;
  for (int i = 0; i < 10; ++i) {
    std::atomic<int> commits = 0;
    FakeServer::Hooks hooks = FailChunks(absl::UnavailableError("once"), [](int number) { return number == 0; });
    hooks.before_commit = [&commits](const Context&) {
      ++commits;
      return absl::OkStatus();
    };
    FakeServer server(hooks);
    const ServerOutcome outcome = PushTo(server.address(), model, options);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.retries, 1);
    EXPECT_EQ(commits, 1);
    model.ExpectHeldBy(server);
  }
}

TEST(PushFailureTest, ABeginThatHangsIsGivenNoMoreTimeForALargerModel) {
  const TestModel model(1 << 20);
  std::atomic<int> begins = 0;
  FakeServer::Hooks hooks;
  hooks.on_begin = [&begins](const Context& context, v1::BeginUpdateRequest&) {
    if (begins++ == 0) FakeServer::WaitUntilCancelled(context);
    return absl::OkStatus();
  };
  FakeServer server(hooks);
  PushOptions options = TestOptions();
  options.limits.call = absl::Milliseconds(500);
  // 20 s and more for this model.
  options.limits.per_gib = absl::Seconds(20 * 1024);
  const ServerOutcome outcome = PushTo(server.address(), model, options);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(begins, 2);
  EXPECT_LT(outcome.begin_time, absl::Seconds(10));
}

TEST(PushFailureTest, AnotherStreamTakesOverWhereOneFails) {
  const TestModel model(kModelBytes);
  FakeServer server(FailChunks(absl::UnavailableError("once"), [](int number) { return number == 5; }));
  const ServerOutcome outcome = PushTo(server.address(), model);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.retries, 1);
  model.ExpectHeldBy(server);
}

TEST(PushFailureTest, DamageOnTheWayIsHealedByAResend) {
  const TestModel model(kModelBytes);
  FakeServer::Hooks hooks;
  hooks.on_chunk = [](const Context&, v1::WeightChunk& chunk, int number) {
    if (number == 3) (*chunk.mutable_data())[0] ^= 1;
    return absl::OkStatus();
  };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server.address(), model);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  model.ExpectHeldBy(server);
}

TEST(PushFailureTest, ResumeSendsOnlyMissingRanges) {
  const TestModel model(kModelBytes);
  std::atomic<bool> fail = true;
  FakeServer server(
      FailChunks(absl::UnavailableError("stop here"), [&fail](int number) { return fail.load() && number >= 40; }));
  PushOptions options = TestOptions();
  // So that no other stream's last chunk can land after the failure, and once more in the resume.
  options.connections = 1;
  options.max_attempts = 1;
  EXPECT_TRUE(absl::IsUnavailable(PushTo(server.address(), model, options).status));
  const uint64_t landed = server.landed_bytes();
  ASSERT_GT(landed, 0u);
  fail.store(false);

  options.connections = 2;
  options.version = 0;
  const auto result = Push(*model.Source(), {server.address()}, options);
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->version, 1u);
  EXPECT_EQ(result->servers[0].resumed_bytes, landed);
  EXPECT_EQ(result->servers[0].sent_bytes, model.total_bytes() - landed);
  EXPECT_EQ(server.landed_bytes(), model.total_bytes());
  model.ExpectHeldBy(server);
}

TEST(PushFailureTest, AnotherSourceIsNotResumed) {
  const TestModel model(kModelBytes);
  const TestModel other(kModelBytes, /*seed=*/2);
  std::atomic<bool> fail = true;
  FakeServer server(
      FailChunks(absl::UnavailableError("stop here"), [&fail](int number) { return fail.load() && number >= 40; }));
  PushOptions options = TestOptions();
  options.max_attempts = 1;
  EXPECT_FALSE(PushTo(server.address(), model, options).status.ok());
  fail.store(false);
  options.version = 0;
  const auto result = Push(*other.Source("other"), {server.address()}, options);
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->version, 2u);
  EXPECT_EQ(result->servers[0].resumed_bytes, 0u);
  other.ExpectHeldBy(server);
}

TEST(PushFailureTest, ARestartedServerIsBegunAnew) {
  const TestModel model(kModelBytes);
  FakeServer* forget = nullptr;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&forget](const Context&, v1::WeightChunk&, int number) {
    if (number == 30) forget->ForgetUpdates();
    return absl::OkStatus();
  };
  FakeServer server(hooks);
  forget = &server;
  const ServerOutcome outcome = PushTo(server.address(), model);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_GE(server.begins(), 2);
  model.ExpectHeldBy(server);
}

TEST(PushFailureTest, ARefusalToBeginIsFinalAndKeepsTheServersWords) {
  FakeServer::Hooks hooks;
  hooks.on_begin = [](const Context&, v1::BeginUpdateRequest&) {
    return absl::ResourceExhaustedError("the model takes 5 GiB of 4");
  };
  FakeServer server(hooks);
  const TestModel model(1 << 20);
  const auto result = Push(*model.Source(), {server.address()}, TestOptions());
  EXPECT_EQ(result->status, absl::ResourceExhaustedError(server.address() + ": the model takes 5 GiB of 4"));
  EXPECT_EQ(server.begins(), 0);
}

TEST(PushFailureTest, ARefusedChunkIsFinalAndTheFirstCauseIsReported) {
  const TestModel model(kModelBytes);
  FakeServer server(FailChunks(absl::AbortedError("superseded by version 9"), [](int) { return true; }));
  const ServerOutcome outcome = PushTo(server.address(), model);
  EXPECT_EQ(outcome.status, absl::AbortedError("superseded by version 9"));
  EXPECT_EQ(outcome.retries, 0);
}

TEST(PushFailureTest, FailuresWithoutProgressAreCounted) {
  const TestModel model(kModelBytes);
  FakeServer server(FailChunks(absl::UnavailableError("not today"), [](int) { return true; }));
  PushOptions options = TestOptions();
  options.max_attempts = 3;
  const ServerOutcome outcome = PushTo(server.address(), model, options);
  EXPECT_EQ(outcome.status, absl::UnavailableError("gave up after 3 attempts without a new byte landed: not today"));
}

TEST(PushFailureTest, FailuresWithProgressAreNotCounted) {
  const TestModel model(kModelBytes);
  // Ten losses, but something lands between them.
  FakeServer server(
      FailChunks(absl::UnavailableError("again"), [](int number) { return number % 8 == 7 && number < 80; }));
  PushOptions options = TestOptions();
  options.connections = 1;
  options.max_attempts = 2;
  const ServerOutcome outcome = PushTo(server.address(), model, options);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.retries, 10);
  model.ExpectHeldBy(server);
}

TEST(PushFailureTest, AnUnreachableServerFailsWithinItsLimitAndByItsCause) {
  const TestModel model(1 << 20);
  const absl::Time began = absl::Now();
  const ServerOutcome outcome = PushTo(kNobody, model);
  EXPECT_LT(absl::Now() - began, absl::Seconds(30));
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_TRUE(absl::StrContains(outcome.status.message(), "no answer for 2s: ")) << outcome.status;
  EXPECT_TRUE(absl::StrContains(outcome.status.message(), "refused")) << outcome.status;
  EXPECT_GT(outcome.retries, 0);
}

TEST(PushFailureTest, AFrozenMachineIsFoundOutWithinTheLimits) {
  const TestModel model(kModelBytes);
  FakeServer server;
  FlakyProxy proxy(server.port());
  proxy.FreezeAfter(2 << 20);
  PushOptions options = TestOptions();
  options.limits.keepalive_time = absl::Seconds(1);
  options.limits.keepalive_timeout = absl::Seconds(1);
  const absl::Time began = absl::Now();
  const ServerOutcome outcome = PushTo(proxy.address(), model, options);
  EXPECT_LT(absl::Now() - began, absl::Seconds(30));
  EXPECT_TRUE(absl::IsUnavailable(outcome.status) || absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
}

TEST(PushFailureTest, AServerThatTakesNoDataIsAStallThatSaysSo) {
  const TestModel model(kModelBytes);
  FakeServer::Hooks hooks;
  hooks.on_chunk = [](const Context& context, v1::WeightChunk&, int) {
    FakeServer::WaitUntilCancelled(context);
    return absl::CancelledError("gone");
  };
  FakeServer server(hooks);
  PushOptions options = TestOptions();
  options.limits.stall = absl::Milliseconds(500);
  const ServerOutcome outcome = PushTo(server.address(), model, options);
  EXPECT_EQ(outcome.status, absl::DeadlineExceededError("the server answers but takes no data: no progress for 500ms"));
}

TEST(PushFailureTest, AServerThatNeverAnswersBeginIsADeadline) {
  FakeServer::Hooks hooks;
  hooks.on_begin = [](const Context& context, v1::BeginUpdateRequest&) {
    FakeServer::WaitUntilCancelled(context);
    return absl::CancelledError("gone");
  };
  FakeServer server(hooks);
  const TestModel model(1 << 20);
  PushOptions options = TestOptions();
  options.limits.call = absl::Milliseconds(500);
  options.limits.connect = absl::Seconds(1);
  const ServerOutcome outcome = PushTo(server.address(), model, options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
}

TEST(PushFailureTest, AReplyThatMakesNoSenseIsRefused) {
  FakeServer::Hooks hooks;
  hooks.on_begun = [](v1::BeginUpdateResponse& reply) {
    reply.set_everything_missing(false);
    reply.add_missing()->set_name("scalar");
    reply.mutable_missing(0)->add_ranges()->set_end(uint64_t{1} << 40);
  };
  FakeServer server(hooks);
  const TestModel model(1 << 20);
  EXPECT_TRUE(absl::IsInternal(PushTo(server.address(), model).status));
}

TEST(PushFailureTest, CancellationEndsItSoonAndLeavesTheUpdateToBeResumed) {
  const TestModel model(kModelBytes);
  std::atomic<bool> cancel = false;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&cancel](const Context& context, v1::WeightChunk&, int number) {
    if (number < 20) return absl::OkStatus();
    cancel.store(true);
    FakeServer::WaitUntilCancelled(context);
    return absl::CancelledError("gone");
  };
  FakeServer server(hooks);
  PushOptions options = TestOptions();
  options.limits.stall = absl::Minutes(5);
  const auto result = Push(*model.Source(), {server.address()}, options, nullptr, [&] { return cancel.load(); });
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(absl::IsCancelled(result->status)) << result->status;
  EXPECT_TRUE(server.aborts().empty());
  EXPECT_EQ(server.State("m").updates_size(), 1);
}

TEST(PushFailureTest, CancellationEndsTheWaitForAServerThatIsNotThere) {
  PushOptions options = TestOptions();
  options.limits.connect = absl::Hours(1);
  int retries = 0;
  const TestModel model(1 << 20);
  const auto result = Push(
      *model.Source(), {kNobody}, options, [&](const PushProgress& progress) { retries = progress.retries; },
      [&] { return retries > 0; });
  EXPECT_TRUE(absl::IsCancelled(result->status)) << result->status;
}

}  // namespace
}  // namespace weightstream
