#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "client/fake_server.h"
#include "client/push_testing.h"
#include "client/read.h"

namespace weightstream {
namespace {

using Context = grpc::ServerContext;

class VerifyTest : public testing::Test {
 protected:
  VerifyTest() {
    options_.model = std::string("m");
    options_.limits = ShortLimits();
  }

  std::unique_ptr<FakeServer> Serve(FakeServer::Hooks hooks = {}) {
    auto server = std::make_unique<FakeServer>(std::move(hooks));
    EXPECT_TRUE(Push(*model_.Source(), {server->address()}, TestOptions())->status.ok());
    return server;
  }

  const TestModel model_{2 << 20};
  ReadOptions options_;
};

TEST_F(VerifyTest, EqualBytesHaveNoDifference) {
  const auto server = Serve();
  uint64_t done = 0;
  const auto result =
      Verify(*model_.Source(), server->address(), options_, [&](uint64_t bytes, uint64_t) { done = bytes; });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->version, 1u);
  EXPECT_EQ(result->tensors, model_.specs().size());
  EXPECT_EQ(result->total_bytes, model_.total_bytes());
  EXPECT_TRUE(result->differences.empty());
  EXPECT_EQ(result->differing_tensors, 0u);
  EXPECT_EQ(done, model_.total_bytes());
}

TEST_F(VerifyTest, OneBitIsFoundAndItsBlockNamed) {
  const auto server = Serve();
  server->Damage("m", "layer.0.weight", 200'000);
  const auto result = Verify(*model_.Source(), server->address(), options_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->differences.size(), 1u);
  EXPECT_EQ(result->differences[0].tensor, "layer.0.weight");
  EXPECT_EQ(result->differences[0].what, "bytes differ in [196608, 262144)");
}

TEST_F(VerifyTest, NamesWhatOneSideLacksAndWhatHasAnotherShape) {
  const auto server = Serve();
  const std::string bytes(8, 'x');
  const auto source = NewMemorySource({{{"extra", DType::kU8, {8}}, bytes}, {{"scalar", DType::kI64, {1}}, bytes}});
  const auto result = Verify(**source, server->address(), options_);
  ASSERT_TRUE(result.ok()) << result.status();
  std::map<std::string, std::string> what;
  for (const Difference& difference : result->differences) what[difference.tensor] = difference.what;
  EXPECT_EQ(what.at("extra"), "missing on the server");
  EXPECT_EQ(what.at("scalar"), "I64[1] here, F64[] there");
  EXPECT_EQ(what.at("odd"), "not in the source");
  EXPECT_EQ(result->differing_tensors, model_.specs().size() + 1);
  EXPECT_EQ(result->tensors, model_.specs().size() + 1);
  EXPECT_EQ(result->total_bytes, 0u);
}

TEST_F(VerifyTest, CountsEachTensorOfEitherSideOnce) {
  const auto server = Serve();
  const std::string bytes(8, 'x');
  const auto source = NewMemorySource({{{"extra", DType::kU8, {8}}, bytes},
                                       {{"scalar", DType::kF64, {}}, bytes},
                                       {{"packed", DType::kU8, {8}}, bytes}});
  const auto result = Verify(**source, server->address(), options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tensors, model_.specs().size() + 1);
  EXPECT_EQ(result->total_bytes, 8u);
}

TEST_F(VerifyTest, ALostStreamIsTakenUpWhereItEnded) {
  FakeServer::Hooks hooks;
  hooks.on_digest = [](const Context&, v1::TensorDigest&, int number) {
    return number == 3 ? absl::UnavailableError("lost") : absl::OkStatus();
  };
  const auto server = Serve(hooks);
  const auto result = Verify(*model_.Source(), server->address(), options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tensors, model_.specs().size());
  EXPECT_EQ(result->differing_tensors, 0u);
}

TEST_F(VerifyTest, AnUnknownModelIsNotFoundAndNamesTheServer) {
  const FakeServer server;
  const auto result = Verify(*model_.Source(), server.address(), options_);
  EXPECT_EQ(result.status(), absl::NotFoundError(server.address() + ": unknown model"));
}

TEST_F(VerifyTest, ADigestThatDoesNotFitIsRefused) {
  FakeServer::Hooks hooks;
  hooks.on_digest = [](const Context&, v1::TensorDigest& digest, int) {
    digest.set_block_bytes(0);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  EXPECT_TRUE(absl::IsInternal(Verify(*model_.Source(), server->address(), options_).status()));
}

TEST_F(VerifyTest, CancellationEndsIt) {
  FakeServer::Hooks hooks;
  std::atomic<bool> cancel = false;
  hooks.on_digest = [&](const Context& context, v1::TensorDigest&, int) {
    cancel.store(true);
    FakeServer::WaitUntilCancelled(context);
    return absl::OkStatus();
  };
  const auto server = Serve(hooks);
  const auto result = Verify(*model_.Source(), server->address(), options_, nullptr, [&] { return cancel.load(); });
  EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
}

}  // namespace
}  // namespace weightstream
