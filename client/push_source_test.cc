// What a push makes of a checkpoint that is written while it is pushed.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "client/fake_server.h"
#include "client/push.h"
#include "client/push_testing.h"
#include "tensor/safetensors_writer.h"

namespace weightstream {
namespace {

using Context = grpc::ServerContext;

class PushSourceTest : public testing::Test {
 protected:
  PushSourceTest() {
    EXPECT_TRUE(WriteSafetensors(path_, {{{"w", DType::kU8, {bytes_.size()}}, bytes_}}, {}).ok());
    // Long ago, so that a write is seen however coarse the clock.
    std::filesystem::last_write_time(path_, std::filesystem::last_write_time(path_) - std::chrono::hours(1));
    source_ = OpenCheckpointSource(path_).value();
  }

  // As a writer that does not replace the file: its last byte, which stays the last.
  void WriteInPlace() {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('y');
    EXPECT_TRUE(file.flush().good());
  }

  void ExpectRefused(const absl::Status& status) const {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), path_ + " was written")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "push again once its writer is done")) << status;
  }

  const std::string bytes_ = std::string(1 << 20, 'x');
  const std::string path_ = testing::TempDir() + "/pushed.safetensors";
  std::unique_ptr<WeightSource> source_;
  std::atomic<int> commits_ = 0;
};

TEST_F(PushSourceTest, ACheckpointThatStaysAsItIsIsCommitted) {
  const FakeServer server;
  const auto result = Push(*source_, {server.address()}, TestOptions());
  ASSERT_TRUE(result->status.ok()) << result->status;
  EXPECT_TRUE(server.Tensor("m", "w") == bytes_);
}

TEST_F(PushSourceTest, AMixtureIsCommittedNowhere) {
  FakeServer::Hooks hooks;
  hooks.on_chunk = [this](const Context&, v1::WeightChunk&, int number) {
    if (number == 2) WriteInPlace();
    return absl::OkStatus();
  };
  const FakeServer server(hooks);
  const FakeServer other;
  const auto result = Push(*source_, {server.address(), other.address()}, TestOptions());
  for (const ServerOutcome& outcome : result->servers) ExpectRefused(outcome.status);
  for (const FakeServer* each : {&server, &other}) {
    EXPECT_EQ(each->commits(), 0);
    ASSERT_EQ(each->aborts().size(), 1u);
    EXPECT_TRUE(absl::StrContains(each->aborts()[0], path_)) << each->aborts()[0];
  }
}

TEST_F(PushSourceTest, BytesThatAreSentAgainAfterACommitAreLookedAtAgain) {
  FakeServer* running = nullptr;
  FakeServer::Hooks hooks;
  hooks.before_commit = [&](const Context&) {
    if (commits_++ > 0) return absl::OkStatus();
    WriteInPlace();
    running->ForgetUpdates();
    return absl::UnavailableError("restarting");
  };
  FakeServer server(hooks);
  running = &server;
  ExpectRefused(Push(*source_, {server.address()}, TestOptions())->servers[0].status);
  EXPECT_EQ(server.commits(), 0);
}

}  // namespace
}  // namespace weightstream
