// Against a server in this process whose models the test sets.
#include "client/command/watch_run.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

// Answers ListModels and WatchModel with one model, at the version that the test sets.
class FakeServer : public v1::WeightStream::Service {
 public:
  FakeServer() { Start(0); }
  ~FakeServer() override { Stop(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  void SetCurrent(uint64_t version) { current_ = version; }

  // At `port`, or at one that is free.
  void Start(int port) {
    stopping_ = false;
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  void Stop() {
    stopping_ = true;
    if (server_ == nullptr) return;
    server_->Shutdown();
    server_->Wait();
    server_ = nullptr;
  }
  void Restart() {
    const int port = port_;
    Stop();
    Start(port);
  }

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    *response->add_models() = State();
    return grpc::Status::OK;
  }

  grpc::Status WatchModel(grpc::ServerContext* context, const v1::WatchModelRequest*,
                          grpc::ServerWriter<v1::Model>* writer) override {
    uint64_t told = ~uint64_t{0};
    while (!context->IsCancelled() && !stopping_) {
      const v1::Model state = State();
      if (state.current_version() != told && !writer->Write(state)) break;
      told = state.current_version();
      absl::SleepFor(absl::Milliseconds(1));  // lint-allow(no-sleep): the pace of a fake watch, no wait.
    }
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
  }

 private:
  v1::Model State() const {
    v1::Model model;
    model.set_name("m");
    model.set_current_version(current_);
    return model;
  }

  std::atomic<uint64_t> current_{1};
  std::atomic<bool> stopping_{false};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// What was printed, and a switch that interrupts.
class Observer {
 public:
  std::function<bool(const WatchEvent&)> Print() {
    return [this](const WatchEvent& event) {
      absl::MutexLock lock(&mutex_);
      seen_.push_back(absl::StrCat(event.server, " ", event.state, " ", event.version));
      return printing_;
    };
  }
  std::function<bool()> Interrupted() {
    return [this] { return interrupted_.load(); };
  }

  void Interrupt() { interrupted_ = true; }
  void StopPrinting() {
    absl::MutexLock lock(&mutex_);
    printing_ = false;
  }

  // Waits for `count` lines that say `what`.
  bool Sees(const std::string& what, long count = 1) {
    absl::MutexLock lock(&mutex_);
    const auto seen = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return std::count_if(seen_.begin(), seen_.end(),
                           [&](const auto& line) { return absl::StrContains(line, what); }) >= count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&seen), absl::Seconds(30));
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> seen_ ABSL_GUARDED_BY(mutex_);
  bool printing_ ABSL_GUARDED_BY(mutex_) = true;
  std::atomic<bool> interrupted_{false};
};

// A watch on a thread of its own.
class Watch {
 public:
  Watch(const WatchOptions& options, Observer& observer)
      : run_(options, observer.Print(), observer.Interrupted()), thread_([this] { status_ = run_.Run(); }) {}
  ~Watch() {
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Join() {
    thread_.join();
    return status_;
  }

 private:
  WatchRun run_;
  absl::Status status_;
  std::thread thread_;
};

// Nothing listens on port 1. A number, not a name: the resolver of gRPC 1.51 (c-ares) leaks, and LeakSanitizer would
// say so.
constexpr char kNobody[] = "127.0.0.1:1";

TEST(WatchRunTest, EndsOnceTheVersionIsCurrentOnEveryServer) {
  FakeServer one, other;
  Observer observer;
  one.SetCurrent(5);
  Watch watch({.servers = {one.address(), other.address()}, .model = "m", .until_version = 5}, observer);
  EXPECT_TRUE(observer.Sees(absl::StrCat(one.address(), " current 5")));
  EXPECT_TRUE(observer.Sees(absl::StrCat(other.address(), " current 1")));
  other.SetCurrent(6);
  EXPECT_EQ(watch.Join(), absl::OkStatus());
}

TEST(WatchRunTest, TimeRunningOutNamesTheServersThatAreBehind) {
  FakeServer one, other;
  one.SetCurrent(5);
  Observer observer;
  Watch watch(
      // What the first has to show that it is not.
      {.servers = {one.address(), other.address()}, .model = "m", .until_version = 5, .timeout = absl::Seconds(5)},
      observer);
  const absl::Status status = watch.Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(absl::StrContains(status.message(), other.address())) << status;
  EXPECT_FALSE(absl::StrContains(status.message(), one.address())) << status;
}

TEST(WatchRunTest, AnInterruptionEndsAPlainWatchWell) {
  FakeServer server;
  for (const char* model : {"", "m"}) {
    Observer observer;
    Watch watch({.servers = {server.address()}, .model = model}, observer);
    EXPECT_TRUE(observer.Sees("current 1"));
    observer.Interrupt();
    EXPECT_EQ(watch.Join(), absl::OkStatus());
  }
}

TEST(WatchRunTest, AnInterruptionBeforeTheVersionIsAFailure) {
  FakeServer server;
  Observer observer;
  Watch watch({.servers = {server.address()}, .model = "m", .until_version = 9}, observer);
  EXPECT_TRUE(observer.Sees("current 1"));
  observer.Interrupt();
  EXPECT_EQ(watch.Join().code(), absl::StatusCode::kCancelled);
}

TEST(WatchRunTest, ARestartOfTheServerIsToldAndWatchedThrough) {
  for (const char* model : {"", "m"}) {
    FakeServer server;
    Observer observer;
    Watch watch({.servers = {server.address()}, .model = model}, observer);
    EXPECT_TRUE(observer.Sees("current 1"));
    server.Stop();
    EXPECT_TRUE(observer.Sees("unreachable"));
    server.SetCurrent(2);
    server.Restart();
    EXPECT_TRUE(observer.Sees("current 2"));
    observer.Interrupt();
    EXPECT_EQ(watch.Join(), absl::OkStatus());
  }
}

TEST(WatchRunTest, AServerThatIsNeverReachedIsGivenUpAndNamed) {
  Observer observer;
  Watch watch({.servers = {kNobody}, .limits = {.connect = absl::Seconds(1)}}, observer);
  const absl::Status status = watch.Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StartsWith(status.message(), kNobody)) << status;
}

TEST(WatchRunTest, ADeadServerDoesNotEndTheWatchOfTheOthers) {
  FakeServer server;
  Observer observer;
  Watch watch({.servers = {kNobody, server.address()}, .limits = {.connect = absl::Milliseconds(1)}}, observer);
  EXPECT_TRUE(observer.Sees(absl::StrCat(kNobody, " unreachable")));
  server.SetCurrent(2);
  EXPECT_TRUE(observer.Sees("current 2"));
  observer.Interrupt();
  EXPECT_EQ(watch.Join(), absl::OkStatus());
}

TEST(WatchRunTest, ADeadServerEndsTheWaitForAVersion) {
  FakeServer server;
  Observer observer;
  Watch watch({.servers = {kNobody, server.address()},
               .model = "m",
               .until_version = 9,
               .limits = {.connect = absl::Milliseconds(1)}},
              observer);
  EXPECT_EQ(watch.Join().code(), absl::StatusCode::kUnavailable);
}

TEST(WatchRunTest, AClosedOutputEndsTheWatch) {
  FakeServer server;
  Observer observer;
  observer.StopPrinting();
  Watch watch({.servers = {server.address()}}, observer);
  EXPECT_EQ(watch.Join().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace weightstream::command
