// That calls are served while the poller has stepped aside for streams, and that nothing else waits in its stead.
#include "server/poller.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/health.h"
#include "server/test_server.h"

namespace weightstream {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// The least server that has a poller: all that it serves is health.
class PollerTest : public testing::Test {
 protected:
  PollerTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(health_.service());
    std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    health_.Start(*queue);
    poller_.Start(std::move(queue));
    stub_ = grpc::health::v1::Health::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }

  ~PollerTest() override {
    // First, since a connection that nobody uses hears of the server's end after seconds only.
    stub_.reset();
    server_->Shutdown();
    health_.AwaitEnd();
    poller_.Stop();
  }

  grpc::Status Check() {
    const std::unique_ptr<grpc::ClientContext> context = NewContext();
    HealthCheckResponse response;
    return stub_->Check(context.get(), HealthCheckRequest(), &response);
  }

  Health health_;
  Poller poller_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
};

TEST_F(PollerTest, CallsAreServedWhileStreamsMoveAndOnceTheyRest) {
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> moving = true;
    std::vector<std::thread> streams;
    for (int i = 0; i < 3; ++i) {
      streams.emplace_back([&] {
        while (moving) poller_.StreamMoved();
      });
    }
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Check().ok()) << "while streams move";
    moving = false;
    for (std::thread& stream : streams) stream.join();
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Check().ok()) << "at rest";
  }
}

TEST_F(PollerTest, EachSingleMoveCounts) {
  // Whether it finds the poller waiting, about to wait, or about to look: none may be lost or wake it twice.
  for (int i = 0; i < 300; ++i) {
    std::thread stream([&] { poller_.StreamMoved(); });
    if (i % 10 == 0) {
      EXPECT_TRUE(Check().ok());
    }
    stream.join();
  }
  EXPECT_TRUE(Check().ok());
}

TEST_F(PollerTest, ItEndsWithAWakeUpOnItsWay) { poller_.StreamMoved(); }

std::vector<std::string> ThreadNames() {
  std::vector<std::string> names;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::getline(std::ifstream(task.path() / "comm"), names.emplace_back());
  }
  return names;
}

TEST(PollersOfGrpcTest, AServerHasNone) {
  const TestServer server;
  const std::unique_ptr<TestClient> client = server.NewClient();
  ASSERT_TRUE(client->PushVersion("m", 1, VariedTensors(1)).ok());
  const std::vector<std::string> names = ThreadNames();
  EXPECT_GT(names.size(), 1u);
  // What polls for gRPC's callback services, of which gRPC's own health service would be one.
  EXPECT_THAT(names, testing::Not(testing::Contains("nexting_thread")));
}

}  // namespace
}  // namespace weightstream
