#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "client/fake_server.h"
#include "client/flaky_proxy.h"
#include "client/push_testing.h"
#include "client/read.h"
#include "kernels/checksum.h"
#include "tensor/checkpoint.h"

namespace weightstream {
namespace {

constexpr uint64_t kModelBytes = 4 << 20;
constexpr uint64_t kChunkBytes = 64 << 10;

using Context = grpc::ServerContext;

class PullTest : public testing::Test {
 protected:
  PullTest()
      : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() + "/a/b") {
    options_.model = std::string("m");
    options_.limits = ShortLimits();
  }

  // With the test model as version 1.
  std::unique_ptr<FakeServer> Serve(FakeServer::Hooks hooks = {}) {
    auto server = std::make_unique<FakeServer>(std::move(hooks), kChunkBytes);
    EXPECT_TRUE(Push(*model_.Source(), {server->address()}, TestOptions())->status.ok());
    return server;
  }

  void ExpectPulled(const absl::StatusOr<PullResult>& result) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->path, folder_ + "/model.safetensors");
    EXPECT_EQ(result->tensors, model_.specs().size());
    EXPECT_EQ(result->total_bytes, model_.total_bytes());
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(result->path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    std::map<std::string, absl::string_view> held;
    for (const Checkpoint::Tensor& tensor : checkpoint->tensors()) held[tensor.spec.name] = tensor.data;
    ASSERT_EQ(held.size(), model_.specs().size());
    for (size_t i = 0; i < model_.specs().size(); ++i) {
      EXPECT_TRUE(held.at(model_.specs()[i].name) == model_.data(i)) << model_.specs()[i].name;
    }
    EXPECT_EQ(checkpoint->metadata().at("format"), "pt");
  }

  void ExpectNoFile() { EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "something is left in " << folder_; }

  const TestModel model_{kModelBytes};
  const std::string folder_;
  ReadOptions options_;
};

TEST_F(PullTest, WritesEveryTensorAndItsMetadata) {
  const auto server = Serve();
  uint64_t done = 0;
  const auto result = Pull(server->address(), options_, folder_, [&](uint64_t bytes, uint64_t total) {
    EXPECT_LE(done, bytes);
    EXPECT_EQ(total, model_.total_bytes());
    done = bytes;
  });
  ExpectPulled(result);
  EXPECT_EQ(result->version, 1u);
  EXPECT_EQ(done, model_.total_bytes());
}

TEST_F(PullTest, AsksOnlyForWhatIsMissingAfterALoss) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context&, v1::WeightChunk&, int number) {
    return number == 20 ? absl::UnavailableError("lost") : absl::OkStatus();
  };
  const auto server = Serve(hooks);
  ExpectPulled(Pull(server->address(), options_, folder_));
  const std::vector<v1::PullRequest> pulls = server->pulls();
  ASSERT_EQ(pulls.size(), 2u);
  uint64_t asked = 0;
  for (const v1::TensorRanges& part : pulls[1].parts()) {
    for (const v1::ByteRange& range : part.ranges()) asked += range.end() - range.begin();
  }
  EXPECT_GT(asked, 0u);
  EXPECT_LT(asked, model_.total_bytes());
  EXPECT_EQ(pulls[1].version(), 1u);
}

TEST_F(PullTest, DamageOnTheWayIsAskedForAgain) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context&, v1::WeightChunk& chunk, int number) {
    if (number == 20) (*chunk.mutable_data())[0] ^= 1;
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  ExpectPulled(Pull(server->address(), options_, folder_));
  EXPECT_EQ(server->pulls().size(), 2u);
}

// What is no message any more, by a bit that flipped where a checksum covers it, is no defect of the server's either.
TEST_F(PullTest, AHeaderThatIsDamagedBeyondReadingIsAskedForAgain) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context&, v1::WeightChunk& chunk, int number) {
    if (number != 20) return absl::OkStatus();
    v1::WeightChunk covered = chunk;
    covered.clear_data();
    covered.clear_header_crc32c();
    chunk.set_header_crc32c(ExtendCrc32c(0, covered.SerializeAsString()));
    // Not UTF-8.
    (*chunk.mutable_name())[0] ^= static_cast<char>(0x80);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  ExpectPulled(Pull(server->address(), options_, folder_));
  EXPECT_EQ(server->pulls().size(), 2u);
}

TEST_F(PullTest, DamageThatStaysEndsItByItsCauseAndLeavesNoFile) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context&, v1::WeightChunk& chunk, int) {
    if (!chunk.data().empty()) chunk.set_crc32c(chunk.crc32c() ^ 1);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  const auto result = Pull(server->address(), options_, folder_);
  EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
  EXPECT_TRUE(absl::StartsWith(result.status().message(), server->address() + ": ")) << result.status();
  ExpectNoFile();
}

TEST_F(PullTest, AChunkOutsideItsTensorIsRefused) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context&, v1::WeightChunk& chunk, int) {
    chunk.set_offset(~uint64_t{0} - 3);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  EXPECT_TRUE(absl::IsInternal(Pull(server->address(), options_, folder_).status()));
  ExpectNoFile();
}

TEST_F(PullTest, AnUnknownModelOrVersionIsNotFound) {
  const auto server = Serve();
  options_.version = 7;
  EXPECT_TRUE(absl::IsNotFound(Pull(server->address(), options_, folder_).status()));
  options_.model = std::string("other");
  EXPECT_TRUE(absl::IsNotFound(Pull(server->address(), options_, folder_).status()));
  ExpectNoFile();
}

TEST_F(PullTest, AServerThatFallsSilentIsAStall) {
  FakeServer::Hooks hooks;
  hooks.on_pull_chunk = [](const Context& context, v1::WeightChunk&, int number) {
    if (number >= 20) FakeServer::WaitUntilCancelled(context);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  options_.limits.stall = absl::Milliseconds(200);
  const auto result = Pull(server->address(), options_, folder_);
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status())) << result.status();
  EXPECT_TRUE(absl::StrContains(result.status().message(), "no progress for 200ms")) << result.status();
  ExpectNoFile();
}

TEST_F(PullTest, CancellationEndsIt) {
  FakeServer::Hooks hooks;
  std::atomic<bool> cancel = false;
  hooks.on_pull_chunk = [&](const Context& context, v1::WeightChunk&, int) {
    cancel.store(true);
    FakeServer::WaitUntilCancelled(context);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  const auto result = Pull(server->address(), options_, folder_, nullptr, [&] { return cancel.load(); });
  EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
  ExpectNoFile();
}

TEST_F(PullTest, SurvivesCutConnections) {
  const auto server = Serve();
  FlakyProxy proxy(server->port());
  // What a client sends in a pull is small: each of the first connections is cut after its first words.
  proxy.CutAfter(100, /*times=*/2);
  ExpectPulled(Pull(proxy.address(), options_, folder_));
  EXPECT_EQ(proxy.cuts(), 2);
}

TEST_F(PullTest, AFileInTheFoldersPlaceIsNamed) {
  const auto server = Serve();
  const std::string file = testing::TempDir() + "/pull_test_file";
  std::ofstream(file) << "x";
  const auto result = Pull(server->address(), options_, file);
  EXPECT_FALSE(result.ok());
  EXPECT_TRUE(absl::StrContains(result.status().message(), file)) << result.status();
}

}  // namespace
}  // namespace weightstream
