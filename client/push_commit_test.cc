// What a push makes of commits whose replies are lost.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/fake_server.h"
#include "client/push.h"
#include "client/push_testing.h"

namespace weightstream {
namespace {

constexpr uint64_t kModelBytes = 2 << 20;

using Context = grpc::ServerContext;

class PushCommitTest : public testing::Test {
 protected:
  ServerOutcome PushTo(const FakeServer& server) {
    const auto result = Push(*model_.Source(), {server.address()}, options_);
    EXPECT_TRUE(result.ok()) << result.status();
    return result->servers.at(0);
  }

  const TestModel model_{kModelBytes};
  PushOptions options_ = TestOptions();
  std::atomic<int> calls_ = 0;
  FakeServer* server_ = nullptr;
};

TEST_F(PushCommitTest, ALostReplyIsAskedForAgain) {
  FakeServer::Hooks hooks;
  hooks.after_commit = [this](const Context&) {
    return calls_++ == 0 ? absl::UnavailableError("the reply is lost") : absl::OkStatus();
  };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.path, "/fake/m/1");
  EXPECT_EQ(server.commits(), 1);
  model_.ExpectHeldBy(server);
}

TEST_F(PushCommitTest, AnUpdateThatIsNotWhatWasMeantIsAbortedAndBegunAgain) {
  FakeServer::Hooks hooks;
  hooks.before_commit = [this](const Context&) {
    return calls_++ == 0 ? absl::DataLossError("another manifest") : absl::OkStatus();
  };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(server.aborts(), std::vector<std::string>{"another manifest"});
  EXPECT_EQ(server.begins(), 2);
  EXPECT_EQ(outcome.sent_bytes, 2 * model_.total_bytes());
  model_.ExpectHeldBy(server);
}

TEST_F(PushCommitTest, ACommitThatTookEffectBeforeARestartIsRecognised) {
  FakeServer::Hooks hooks;
  hooks.after_commit = [this](const Context&) {
    server_->ForgetUpdates();
    return absl::UnavailableError("restarting");
  };
  FakeServer server(hooks);
  server_ = &server;
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.path, "/fake/m/1");
  EXPECT_EQ(outcome.sent_bytes, model_.total_bytes());
  EXPECT_EQ(server.commits(), 1);
}

TEST_F(PushCommitTest, ACommitThatWasLostInARestartIsDoneAgain) {
  FakeServer::Hooks hooks;
  hooks.before_commit = [this](const Context&) {
    if (calls_++ > 0) return absl::OkStatus();
    server_->ForgetUpdates();
    return absl::UnavailableError("restarting");
  };
  FakeServer server(hooks);
  server_ = &server;
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.sent_bytes, 2 * model_.total_bytes());
  model_.ExpectHeldBy(server);
}

TEST_F(PushCommitTest, AServerThatLosesEveryCommitIsGivenUp) {
  FakeServer::Hooks hooks;
  hooks.before_commit = [this](const Context&) {
    server_->ForgetUpdates();
    return absl::OkStatus();
  };
  FakeServer server(hooks);
  server_ = &server;
  options_.max_attempts = 3;
  const ServerOutcome outcome = PushTo(server);
  EXPECT_EQ(outcome.status, absl::NotFoundError("gave up after 3 commits without effect: unknown update"));
  EXPECT_EQ(outcome.sent_bytes, 3 * model_.total_bytes());
}

TEST_F(PushCommitTest, AnotherSendersVersionIsNotTakenForOurs) {
  FakeServer::Hooks hooks;
  hooks.after_commit = [this](const Context&) {
    server_->Damage("m", "odd", 70'000);
    server_->ForgetUpdates();
    return absl::UnavailableError("restarting");
  };
  FakeServer server(hooks);
  server_ = &server;
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(absl::IsAlreadyExists(outcome.status)) << outcome.status;
  EXPECT_TRUE(absl::StrContains(outcome.status.message(), "\"odd\": bytes differ in [65536, 131072)"))
      << outcome.status;
}

TEST_F(PushCommitTest, AVersionThatExistsAfterASentCommitIsOurs) {
  // The commit is refused as if bytes were missing, and the next Begin finds the version committed.
  FakeServer::Hooks hooks;
  hooks.after_commit = [](const Context&) { return absl::FailedPreconditionError("bytes are missing"); };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(server.commits(), 1);
}

TEST_F(PushCommitTest, MissingBytesAtCommitAreSent) {
  FakeServer::Hooks hooks;
  hooks.before_commit = [this](const Context&) {
    return calls_++ == 0 ? absl::FailedPreconditionError("bytes are missing") : absl::OkStatus();
  };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(server.begins(), 2);
}

TEST_F(PushCommitTest, AnOutcomeThatCannotBeLearnedSaysSo) {
  FakeServer::Hooks hooks;
  hooks.after_commit = [](const Context&) { return absl::UnavailableError("the reply is lost"); };
  FakeServer server(hooks);
  const ServerOutcome outcome = PushTo(server);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_TRUE(absl::StrContains(outcome.status.message(), "version 1 of \"m\" may or may not be current"))
      << outcome.status;
  EXPECT_TRUE(absl::StrContains(outcome.status.message(), "the reply is lost")) << outcome.status;
}

TEST_F(PushCommitTest, ARefusedCommitIsFinal) {
  FakeServer::Hooks hooks;
  hooks.before_commit = [](const Context&) { return absl::ResourceExhaustedError("the disk is full"); };
  FakeServer server(hooks);
  EXPECT_EQ(PushTo(server).status, absl::ResourceExhaustedError("the disk is full"));
}

}  // namespace
}  // namespace weightstream
