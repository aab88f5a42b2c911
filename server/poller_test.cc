// That the poller steps aside for streams, that calls are served all the same, and that nothing else of gRPC's waits.
#include "server/poller.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/syscall.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "server/health.h"
#include "server/test_server.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

std::map<int, std::string> ThreadNames() {
  std::map<int, std::string> names;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::getline(std::ifstream(task.path() / "comm"), names[std::stoi(task.path().filename())]);
  }
  return names;
}

// The system call that the poller's thread is in; nothing while it runs.
absl::optional<int> PollerIsIn() {
  for (const auto& [thread, name] : ThreadNames()) {
    if (name != "poller") continue;
    int call = -1;
    if (std::ifstream(absl::StrCat("/proc/self/task/", thread, "/syscall")) >> call) return call;
  }
  return absl::nullopt;
}

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
    EXPECT_NE(server_, nullptr);
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

// Streams that move all the time, for as long as it lives.
class MovingStreams {
 public:
  explicit MovingStreams(Poller& poller) {
    for (int i = 0; i < 3; ++i) {
      threads_.emplace_back([this, &poller] {
        while (moving_) poller.StreamMoved();
      });
    }
  }
  ~MovingStreams() {
    moving_ = false;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> moving_ = true;
  std::vector<std::thread> threads_;
};

TEST_F(PollerTest, CallsAreServedWhileStreamsMoveAndOnceTheyRest) {
  for (int round = 0; round < 5; ++round) {
    {
      const MovingStreams streams(poller_);
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(Check().ok()) << "while streams move";
    }
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Check().ok()) << "at rest";
  }
}

TEST_F(PollerTest, ItSleepsBetweenLooksWhileStreamsMoveAndWaitsOtherwise) {
  {
    const MovingStreams streams(poller_);
    EXPECT_TRUE(WaitFor([] { return PollerIsIn() == SYS_clock_nanosleep; }));
  }
  EXPECT_TRUE(Check().ok());
  // It is in the kernel, and not for a sleep.
  EXPECT_TRUE(WaitFor([] {
    const absl::optional<int> call = PollerIsIn();
    return call.has_value() && *call != SYS_clock_nanosleep;
  }));
}

TEST_F(PollerTest, AMoveMayComeAtAnyMoment) {
  // While the poller waits, is about to wait, or about to look: gRPC ends the process where it is woken twice.
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

TEST(PollersOfGrpcTest, AServerHasNone) {
  const TestServer server;
  const std::unique_ptr<TestClient> client = server.NewClient();
  ASSERT_TRUE(client->PushVersion("m", 1, VariedTensors(1)).ok());
  std::map<std::string, int> threads;
  for (const auto& [thread, name] : ThreadNames()) ++threads[name];
  EXPECT_EQ(threads["poller"], 1);
  // The threads of gRPC's synchronous server, which wait for calls, and those that poll for its callback services, of
  // which gRPC's own health service would be one.
  EXPECT_GE(threads["grpcpp_sync_ser"], 1);
  EXPECT_EQ(threads["nexting_thread"], 0);
}

}  // namespace
}  // namespace weightstream
