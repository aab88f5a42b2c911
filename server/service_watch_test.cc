// WatchModel: a model's state now, and at each change.
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

// A watcher that reads step by step.
class Watcher {
 public:
  Watcher(TestClient& client, const std::string& model, uint32_t interval_ms = 50) : context_(NewContext()) {
    v1::WatchModelRequest request;
    request.set_model(model);
    request.set_interval_ms(interval_ms);
    reader_ = client.stub().WatchModel(context_.get(), request);
  }

  // Reads until a state is as wanted. False if the stream ended before.
  bool AwaitState(const std::function<bool(const v1::Model&)>& wanted) {
    while (reader_->Read(&state_)) {
      ++messages_;
      if (wanted(state_)) return true;
    }
    return false;
  }

  absl::Status AwaitEnd() {
    while (reader_->Read(&state_)) continue;
    return FromGrpcStatus(reader_->Finish());
  }

  const v1::Model& state() const { return state_; }
  int messages() const { return messages_; }
  grpc::ClientContext& context() { return *context_; }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<v1::Model>> reader_;
  v1::Model state_;
  int messages_ = 0;
};

bool Any(const v1::Model&) { return true; }

class ServiceWatchTest : public testing::Test {
 protected:
  TestServer server_;
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
  const std::vector<TestTensor> tensors_ = {MakeTensor("t", DType::kU8, {2000}, 1)};
};

TEST_F(ServiceWatchTest, SeesBeginProgressAndCommitOfAModelThatDidNotExist) {
  Watcher watcher(*client_, "m");
  ASSERT_TRUE(watcher.AwaitState(Any));
  EXPECT_EQ(watcher.state().name(), "m");
  EXPECT_EQ(watcher.state().current_version(), 0u);
  EXPECT_EQ(watcher.state().updates_size(), 0);

  const auto begun = client_->Begin(BeginRequest("m", 4, tensors_));
  ASSERT_TRUE(begun.ok());
  ASSERT_TRUE(watcher.AwaitState([](const v1::Model& model) { return model.updates_size() > 0; }));
  EXPECT_EQ(watcher.state().updates(0).state(), v1::UPDATE_STATE_RECEIVING);
  EXPECT_EQ(watcher.state().updates(0).update_id(), begun->update_id());
  EXPECT_EQ(watcher.state().updates(0).total_bytes(), 2000u);

  ASSERT_TRUE(client_->Push({ChunkOf(tensors_[0], 0, 700, begun->update_id())}).ok());
  EXPECT_TRUE(watcher.AwaitState([](const v1::Model& model) { return model.updates(0).landed_bytes() == 700; }));

  ASSERT_TRUE(client_->Push(ChunksOf(tensors_, 1000, begun->update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun->update_id()).ok());
  ASSERT_TRUE(watcher.AwaitState([](const v1::Model& model) { return model.current_version() == 4; }));
  EXPECT_EQ(watcher.state().updates(0).state(), v1::UPDATE_STATE_COMMITTED);
  EXPECT_EQ(watcher.state().versions(0).version(), 4u);
}

TEST_F(ServiceWatchTest, SeesAbortAndRollback) {
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());
  ASSERT_TRUE(client_->PushVersion("m", 2, tensors_).ok());
  Watcher watcher(*client_, "m");
  ASSERT_TRUE(watcher.AwaitState(Any));
  EXPECT_EQ(watcher.state().current_version(), 2u);
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  ASSERT_TRUE(watcher.AwaitState([](const v1::Model& model) { return model.current_version() == 1; }));
  const auto begun = client_->Begin(BeginRequest("m", 3, tensors_));
  ASSERT_TRUE(client_->Abort("m", begun->update_id(), "no").ok());
  EXPECT_TRUE(
      watcher.AwaitState([](const v1::Model& model) { return model.updates(0).state() == v1::UPDATE_STATE_ABORTED; }));
}

TEST_F(ServiceWatchTest, AChangeOfStateDoesNotWaitForTheInterval) {
  Watcher watcher(*client_, "m", /*interval_ms=*/3'600'000);
  ASSERT_TRUE(watcher.AwaitState(Any));
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());
  EXPECT_TRUE(watcher.AwaitState([](const v1::Model& model) { return model.current_version() == 1; }));
  EXPECT_LE(watcher.messages(), 6) << "one for each state at most, none for progress";
}

TEST_F(ServiceWatchTest, EndsAtShutdownAndNotBefore) {
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());
  Watcher known(*client_, "m");
  Watcher unknown(*client_, "n");
  ASSERT_TRUE(known.AwaitState(Any));
  ASSERT_TRUE(unknown.AwaitState(Any));
  std::thread stopper([&] { server_.server().Shutdown(absl::Seconds(20)); });
  ExpectError(known.AwaitEnd(), StatusCode::kUnavailable, {"shutting down"});
  ExpectError(unknown.AwaitEnd(), StatusCode::kUnavailable, {"shutting down"});
  stopper.join();
}

TEST_F(ServiceWatchTest, AWatcherThatGoesAwayFreesItsThread) {
  TestServerOptions options;
  options.limits.threads = 8;
  TestServer server(options);
  const auto client = server.NewClient();
  // More than there are threads, one after the other. The thread of the one before may take a moment to be free.
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(WaitFor([&] {
      Watcher watcher(*client, "m");
      if (!watcher.AwaitState(Any)) return false;
      watcher.context().TryCancel();
      return watcher.AwaitEnd().code() == StatusCode::kCancelled;
    }));
  }
}

}  // namespace
}  // namespace weightstream
