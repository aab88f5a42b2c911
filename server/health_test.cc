// Health as its generated stub sees it. What a model's health is, is in service_standard_test.
#include "server/health.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/test_server.h"

namespace weightstream {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using HealthStub = grpc::health::v1::Health::Stub;
using ServingStatus = HealthCheckResponse::ServingStatus;

HealthCheckRequest Request(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

class Watch {
 public:
  Watch(HealthStub& stub, const std::string& service) : reader_(stub.Watch(context_.get(), Request(service))) {}

  // The next that it is told; UNKNOWN, which no server says, at the end.
  ServingStatus Next() {
    HealthCheckResponse response;
    return reader_->Read(&response) ? response.status() : HealthCheckResponse::UNKNOWN;
  }
  void Cancel() { context_->TryCancel(); }
  grpc::Status Finish() { return reader_->Finish(); }

 private:
  const std::unique_ptr<grpc::ClientContext> context_ = NewContext();
  const std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader_;
};

class HealthTest : public testing::Test {
 protected:
  static TestServerOptions Options() {
    TestServerOptions options;
    options.limits.threads = kThreads;
    return options;
  }

  Watch NewWatch(const std::string& service) { return Watch(*stub_, service); }
  void MakeCurrent(const std::string& model) { ASSERT_TRUE(client_->PushVersion(model, 1, VariedTensors(1)).ok()); }

  static constexpr int kThreads = 16;
  TestServer server_{Options()};
  std::unique_ptr<TestClient> client_ = server_.NewClient();
  std::unique_ptr<HealthStub> stub_ = grpc::health::v1::Health::NewStub(client_->channel());
};

TEST_F(HealthTest, ACheckOfWhatNobodyKnowsNamesIt) {
  HealthCheckResponse response;
  const grpc::Status status = stub_->Check(NewContext().get(), Request("m\n"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no version of model 'm\\x0a' has ever been current");
}

TEST_F(HealthTest, ARequestThatIsTooLargeIsNotRead) {
  const std::string large(1 << 20, 'm');
  HealthCheckResponse response;
  const grpc::Status check = stub_->Check(NewContext().get(), Request(large), &response);
  EXPECT_EQ(check.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << check.error_message();
  EXPECT_THAT(check.error_message(), testing::HasSubstr("of 1048580 bytes; at most 1024"));
  const grpc::Status watch = NewWatch(large).Finish();
  EXPECT_EQ(watch.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << watch.error_message();
  for (const char* method : {"Check", "Watch"}) {
    // A field 1 that ends before its text.
    const absl::Status bad = client_->RawCall(absl::StrCat("/grpc.health.v1.Health/", method), "\x0a\x05m").status();
    EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST_F(HealthTest, AWatchBeginsWithWhatIsAndThenTellsEachChange) {
  Watch unknown = NewWatch("m");
  EXPECT_EQ(unknown.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  MakeCurrent("other");
  MakeCurrent("m");
  EXPECT_EQ(unknown.Next(), HealthCheckResponse::SERVING) << "and nothing of another model";
  Watch known = NewWatch("m");
  EXPECT_EQ(known.Next(), HealthCheckResponse::SERVING);
}

TEST_F(HealthTest, WatchesTakeNoThread) {
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 4 * kThreads; ++i) {
    watches.push_back(std::make_unique<Watch>(*stub_, "m"));
    ASSERT_EQ(watches.back()->Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  }
  MakeCurrent("m");
  for (const auto& watch : watches) EXPECT_EQ(watch->Next(), HealthCheckResponse::SERVING);
}

TEST_F(HealthTest, AWatchThatIsGoneIsInNobodysWay) {
  for (int i = 0; i < 200; ++i) {
    Watch watch = NewWatch("m");
    if (i % 2 == 0) {
      EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
    }
    watch.Cancel();
    if (i % 3 == 0) watch.Finish();
  }
  Watch stays = NewWatch("m");
  EXPECT_EQ(stays.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  MakeCurrent("m");
  EXPECT_EQ(stays.Next(), HealthCheckResponse::SERVING);
}

TEST_F(HealthTest, AShutdownTellsWatchesAndEndsThem) {
  Watch watch = NewWatch("");
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  const auto begun = client_->Begin(BeginRequest("m", 1, {}));
  ASSERT_TRUE(begun.ok()) << begun.status();
  std::thread stopper([&] { server_.server().Shutdown(absl::Seconds(20)); });
  EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
  Watch late = NewWatch("m");
  EXPECT_EQ(late.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  // What is committed while the server drains does not make a model SERVING. The end may be faster than the news.
  EXPECT_TRUE(client_->Commit("m", begun->update_id()).ok());
  while (const ServingStatus status = late.Next()) EXPECT_EQ(status, HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(watch.Next(), HealthCheckResponse::UNKNOWN) << "the end";
  // And not cut after 20 seconds, which the caller would know by another text.
  for (Watch* ended : {&watch, &late}) {
    const grpc::Status status = ended->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(status.error_message(), "the server is shutting down");
  }
  stopper.join();
}

}  // namespace
}  // namespace weightstream
