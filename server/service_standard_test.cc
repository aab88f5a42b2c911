// What any gRPC tool expects of a server: every method of the contract under its name, health, reflection.
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/test_server.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

constexpr bool kServing = true;
constexpr bool kNotServing = false;

class ServiceStandardTest : public testing::Test {
 protected:
  absl::StatusOr<bool> Health(const std::string& service) { return client_->Serving(service); }

  TestServer server_;
  std::unique_ptr<TestClient> client_ = server_.NewClient();
};

TEST_F(ServiceStandardTest, EveryMethodOfTheContractIsServedUnderItsName) {
  const auto* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("weightstream.v1.WeightStream");
  ASSERT_NE(service, nullptr);
  ASSERT_GE(service->method_count(), 11);
  for (int i = 0; i < service->method_count(); ++i) {
    const std::string method = "/" + service->full_name() + "/" + service->method(i)->name();
    const absl::Status status = client_->RawCall(method, "").status();
    EXPECT_NE(status.code(), StatusCode::kUnimplemented) << method << ": " << status;
    // An empty request is wrong for all but one, and each says so itself.
    EXPECT_EQ(status.ok(), service->method(i)->name() == "ListModels") << method << ": " << status;
  }
  EXPECT_EQ(client_->RawCall("/weightstream.v1.WeightStream/Nonsense", "").status().code(), StatusCode::kUnimplemented);
}

TEST_F(ServiceStandardTest, HealthIsPerModelOnceAVersionIsCurrent) {
  EXPECT_EQ(Health("").value(), kServing) << "the server as a whole";
  EXPECT_EQ(Health("m").status().code(), StatusCode::kNotFound);
  const auto begun = client_->Begin(BeginRequest("m", 1, {}));
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(Health("m").status().code(), StatusCode::kNotFound) << "begun is not current";
  ASSERT_TRUE(client_->Commit("m", begun->update_id()).ok());
  EXPECT_EQ(Health("m").value(), kServing);
  server_.Restart();
  client_ = server_.NewClient();
  EXPECT_EQ(Health("m").value(), kServing) << "also what was recovered";
}

TEST_F(ServiceStandardTest, HealthSaysNotServingWhileTheServerDrains) {
  const auto begun = client_->Begin(BeginRequest("m", 1, {}));
  ASSERT_TRUE(begun.ok());
  std::thread stopper([&] { server_.server().Shutdown(absl::Seconds(20)); });
  absl::StatusOr<bool> health = kServing;
  while (health.ok() && *health == kServing) health = Health("");
  ASSERT_TRUE(health.ok()) << health.status();
  EXPECT_EQ(*health, kNotServing);
  EXPECT_TRUE(client_->Commit("m", begun->update_id()).ok()) << "the update in flight holds the server up";
  stopper.join();
}

TEST_F(ServiceStandardTest, ReflectionListsTheService) {
  // list_services, field 7, a string that is not looked at (grpc/reflection/v1alpha/reflection.proto).
  const auto answer =
      client_->RawCall("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x00", 2));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(*answer, testing::HasSubstr("weightstream.v1.WeightStream"));
  EXPECT_THAT(*answer, testing::HasSubstr("grpc.health.v1.Health"));
}

TEST_F(ServiceStandardTest, ReflectionKnowsTheServicesFile) {
  // file_containing_symbol, field 4.
  const std::string symbol = "weightstream.v1.WeightStream";
  const auto answer = client_->RawCall("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                       std::string("\x22") + static_cast<char>(symbol.size()) + symbol);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(*answer, testing::HasSubstr("BeginUpdateRequest"));
}

}  // namespace
}  // namespace weightstream
