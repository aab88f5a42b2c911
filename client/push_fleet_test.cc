// Pushing to several servers of which one fails.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/fake_server.h"
#include "client/flaky_proxy.h"
#include "client/push.h"
#include "client/push_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kModelBytes = 2 << 20;

using Context = grpc::ServerContext;

// Only root could serve there, and nobody does: of a port that was free a moment ago that would not be certain.
constexpr char kDead[] = "127.0.0.1:1";

// At most for half a minute; the test then fails by what it expects.
void WaitUntil(const std::function<bool()>& condition) {
  const absl::Notification never;
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (!condition() && absl::Now() < end) never.WaitForNotificationWithTimeout(absl::Milliseconds(1));
}

TEST(PushFleetTest, AllServersGetTheSameVersion) {
  const TestModel model(kModelBytes);
  FakeServer one, two, three;
  PushOptions options = TestOptions();
  options.version = 0;
  const auto result = Push(*model.Source(), {one.address(), two.address(), three.address()}, options);
  ASSERT_TRUE(result->status.ok()) << result->status;
  ASSERT_EQ(result->servers.size(), 3u);
  EXPECT_EQ(result->servers[1].server, two.address());
  for (const FakeServer* server : {&one, &two, &three}) {
    EXPECT_EQ(server->current_version("m"), 1u);
    model.ExpectHeldBy(*server);
  }
}

TEST(PushFleetTest, AFailureCommitsNowhereAndFreesTheOthers) {
  const TestModel model(kModelBytes);
  FakeServer good, other;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const Context&, v1::WeightChunk&, int) {
    WaitUntil([&] { return good.landed_bytes() > 0 && other.landed_bytes() > 0; });
    return absl::InvalidArgumentError("no more");
  };
  FakeServer bad(hooks);
  const auto result = Push(*model.Source(), {good.address(), bad.address(), other.address()}, TestOptions());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, absl::InvalidArgumentError(bad.address() + ": no more"));
  for (const FakeServer* server : {&good, &other}) {
    EXPECT_EQ(server->current_version("m"), 0u);
    EXPECT_EQ(server->commits(), 0);
  }
  for (int i : {0, 2}) {
    EXPECT_EQ(result->servers[i].status,
              absl::AbortedError("not committed: " + bad.address() + " failed: INVALID_ARGUMENT: no more"));
  }
  // Nothing of it is left, with the one that refused it neither.
  for (const FakeServer* server : {&good, &other, &bad}) EXPECT_EQ(server->State("m").updates_size(), 0);
  EXPECT_EQ(bad.aborts(), std::vector<std::string>{"no more"});
}

TEST(PushFleetTest, AnUpdateThatIsAbortedTellsTheServerWhy) {
  const TestModel model(kModelBytes);
  absl::Notification ready;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&ready](const Context&, v1::WeightChunk&, int) {
    ready.WaitForNotificationWithTimeout(absl::Seconds(30));
    return absl::InvalidArgumentError("no more");
  };
  FakeServer good, bad(hooks);
  const auto result =
      Push(*model.Source(), {good.address(), bad.address()}, TestOptions(), [&](const PushProgress& progress) {
        if (progress.phase == PushPhase::kWaiting && !ready.HasBeenNotified()) ready.Notify();
      });
  EXPECT_TRUE(absl::IsInvalidArgument(result->status)) << result->status;
  ASSERT_EQ(good.aborts().size(), 1u);
  EXPECT_TRUE(absl::StrContains(good.aborts()[0], bad.address())) << good.aborts()[0];
}

TEST(PushFleetTest, ADeadServerCommitsNowhere) {
  const TestModel model(kModelBytes);
  FakeServer one, two;
  PushOptions options = TestOptions();
  // What the others have to receive everything.
  options.limits.connect = absl::Seconds(5);
  const auto result = Push(*model.Source(), {one.address(), kDead, two.address()}, options);
  EXPECT_TRUE(absl::IsUnavailable(result->status)) << result->status;
  EXPECT_TRUE(absl::StartsWith(result->status.message(), kDead)) << result->status;
  EXPECT_EQ(one.commits() + two.commits(), 0);
  EXPECT_TRUE(absl::IsAborted(result->servers[0].status)) << result->servers[0].status;
  // They received everything meanwhile.
  EXPECT_EQ(one.landed_bytes(), model.total_bytes());
  EXPECT_EQ(two.landed_bytes(), model.total_bytes());
}

TEST(PushFleetTest, ADeadServerDoesNotKeepTheOthersFromCommittingWhereThatIsAllowed) {
  const TestModel model(kModelBytes);
  FakeServer one, two;
  PushOptions options = TestOptions();
  options.allow_partial = true;
  const auto result = Push(*model.Source(), {one.address(), kDead, two.address()}, options);
  EXPECT_TRUE(absl::IsUnavailable(result->status)) << result->status;
  EXPECT_TRUE(result->servers[0].status.ok());
  EXPECT_TRUE(absl::IsUnavailable(result->servers[1].status)) << result->servers[1].status;
  EXPECT_TRUE(result->servers[2].status.ok());
  model.ExpectHeldBy(one);
  model.ExpectHeldBy(two);
}

TEST(PushFleetTest, ADeadServerHasNoSayInTheVersion) {
  const TestModel model(kModelBytes);
  FakeServer one;
  PushOptions options = TestOptions();
  options.version = 0;
  options.allow_partial = true;
  const auto result = Push(*model.Source(), {kDead, one.address()}, options);
  EXPECT_TRUE(result->servers[1].status.ok()) << result->servers[1].status;
  EXPECT_EQ(result->version, 1u);
}

TEST(PushFleetTest, ASlowServerDoesNotStopOthersFromReceiving) {
  const TestModel model(kModelBytes);
  FakeServer fast;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const Context&, v1::WeightChunk&, int number) {
    // The slow one goes on only once the fast one has everything.
    if (number == 0) WaitUntil([&] { return fast.landed_bytes() == model.total_bytes(); });
    return absl::OkStatus();
  };
  FakeServer slow(hooks);
  const auto result = Push(*model.Source(), {slow.address(), fast.address()}, TestOptions());
  ASSERT_TRUE(result->status.ok()) << result->status;
  model.ExpectHeldBy(slow);
  model.ExpectHeldBy(fast);
}

TEST(PushFleetTest, AServerThatLosesEverythingWhileItWaitsIsFilledAgain) {
  const TestModel model(kModelBytes);
  FakeServer fast;
  FakeServer::Hooks hooks;
  hooks.on_chunk = [&](const Context&, v1::WeightChunk&, int number) {
    if (number == 0) WaitUntil([&] { return fast.landed_bytes() == 2 * model.total_bytes(); });
    return absl::OkStatus();
  };
  FakeServer slow(hooks);
  bool forgotten = false;
  PushOptions options = TestOptions();
  // The waiting server is looked at twice in this time, and the slow one must not be cut off meanwhile.
  options.limits.stall = absl::Seconds(6);
  const auto result =
      Push(*model.Source(), {slow.address(), fast.address()}, options, [&](const PushProgress& progress) {
        if (forgotten || progress.server != fast.address() || progress.phase != PushPhase::kWaiting) return;
        forgotten = true;
        fast.ForgetUpdates();
      });
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->servers[1].sent_bytes, 2 * model.total_bytes());
  // It was noticed before the commit, not by its failure.
  EXPECT_EQ(result->servers[0].retries, 0);
  EXPECT_EQ(result->servers[1].retries, 0);
  model.ExpectHeldBy(fast);
  model.ExpectHeldBy(slow);
}

TEST(PushFleetTest, NothingIsCommittedBeforeEveryServerHasEverything) {
  const TestModel model(kModelBytes);
  FakeServer* first = nullptr;
  FakeServer* second = nullptr;
  FakeServer::Hooks hooks;
  hooks.before_commit = [&](const Context&) {
    EXPECT_EQ(first->landed_bytes(), model.total_bytes());
    EXPECT_EQ(second->landed_bytes(), model.total_bytes());
    return absl::OkStatus();
  };
  FakeServer one(hooks), two(hooks);
  first = &one;
  second = &two;
  ASSERT_TRUE(Push(*model.Source(), {one.address(), two.address()}, TestOptions())->status.ok());
}

TEST(PushFleetTest, ARestartDuringTheCommitIsHealedThoughTheOthersHaveCommitted) {
  const TestModel model(kModelBytes);
  FakeServer* restarted = nullptr;
  std::atomic<int> commits = 0;
  FakeServer::Hooks hooks;
  hooks.before_commit = [&](const Context&) {
    if (commits++ > 0) return absl::OkStatus();
    restarted->ForgetUpdates();
    return absl::UnavailableError("restarting");
  };
  FakeServer one, two(hooks);
  restarted = &two;
  const auto result = Push(*model.Source(), {one.address(), two.address()}, TestOptions());
  ASSERT_TRUE(result->status.ok()) << result->status;
  model.ExpectHeldBy(two);
}

TEST(PushFleetTest, CancellationEndsEverySession) {
  const TestModel model(kModelBytes);
  FakeServer::Hooks hooks;
  std::atomic<bool> cancel = false;
  hooks.on_chunk = [&](const Context& context, v1::WeightChunk&, int) {
    cancel.store(true);
    FakeServer::WaitUntilCancelled(context);
    return absl::CancelledError("gone");
  };
  FakeServer one, two(hooks);
  const auto result =
      Push(*model.Source(), {one.address(), two.address()}, TestOptions(), nullptr, [&] { return cancel.load(); });
  EXPECT_TRUE(absl::IsCancelled(result->status)) << result->status;
  for (const ServerOutcome& outcome : result->servers) EXPECT_TRUE(absl::IsCancelled(outcome.status)) << outcome.status;
  EXPECT_EQ(one.commits(), 0);
  EXPECT_TRUE(one.aborts().empty());
}

}  // namespace
}  // namespace weightstream
