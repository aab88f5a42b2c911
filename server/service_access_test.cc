// Tokens at the calls of a whole server: no token is sent in plaintext but where a test says so.
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/fake_runtime.h"
#include "server/log.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

const char kReader[] = "reader-0123456789";
const char kPusherOfA[] = "pusher-a-0123456789";
const char kPusherOfB[] = "pusher-b-0123456789";
const char kAdmin[] = "admin-00123456789";

std::string AllTokens() {
  return absl::StrCat("read a token:", kReader, "\npush a token:", kPusherOfA, "\npush b token:", kPusherOfB,
                      "\nadmin * token:", kAdmin, "\n");
}

class ServiceAccessTest : public testing::Test {
 protected:
  ServiceAccessTest() {
    WriteTestFile(tokens_, AllTokens());
    TestServerOptions options;
    options.security.auth_token_file = tokens_;
    options.security.allow_plaintext_tokens = true;
    server_ = std::make_unique<TestServer>(options);
  }

  TestClient Client(const std::string& token) { return TestClient(server_->server().address(), token); }

  const std::string tokens_ = absl::StrCat(MakeTestFolder(), "/tokens");
  std::unique_ptr<TestServer> server_;
  const std::vector<TestTensor> tensors_ = {MakeTensor("t", DType::kU8, {3000}, 1)};
};

TEST_F(ServiceAccessTest, EveryMethodIsRefusedWithoutATokenAndHealthIsNot) {
  const auto* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("weightstream.v1.WeightStream");
  ASSERT_NE(service, nullptr);
  for (int i = 0; i < service->method_count(); ++i) {
    const std::string method = "/" + service->full_name() + "/" + service->method(i)->name();
    for (const char* token : {"", "unknown-0123456789"}) {
      EXPECT_EQ(Client(token).RawCall(method, "").status().code(), StatusCode::kUnauthenticated) << method;
    }
  }
  EXPECT_TRUE(Client("").RawCall("/grpc.health.v1.Health/Check", "").ok()) << "Kubernetes' probes have no token";
}

TEST_F(ServiceAccessTest, APusherPushesItsModelAndNoOther) {
  TestClient pusher = Client(kPusherOfA);
  EXPECT_TRUE(pusher.PushVersion("a", 1, tensors_).ok());
  EXPECT_EQ(pusher.PullTensors("a").value(), DataOf(tensors_));
  ExpectError(pusher.Begin(BeginRequest("b", 1, tensors_)).status(), StatusCode::kPermissionDenied, {"'b'", "push"});
  ExpectError(pusher.Rollback("a", 1).status(), StatusCode::kPermissionDenied, {"RollbackModel", "'a'", "admin"});
  EXPECT_TRUE(Client(kAdmin).Rollback("a", 1).ok());
}

TEST_F(ServiceAccessTest, ATokenForOneModelCannotTouchAnUpdateOfAnother) {
  TestClient owner = Client(kPusherOfB);
  const auto begun = owner.Begin(BeginRequest("b", 1, tensors_));
  ASSERT_TRUE(begun.ok()) << begun.status();
  TestClient intruder = Client(kPusherOfA);
  // The update's id is known, as if it had leaked.
  ExpectError(intruder.Push(ChunksOf(tensors_, 1000, begun->update_id())).status(), StatusCode::kPermissionDenied,
              {"Push", "'b'", "no role on that model"});
  EXPECT_EQ(owner.GetModel("b")->updates(0).landed_bytes(), 0u);
  EXPECT_EQ(intruder.Commit("b", begun->update_id()).status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(intruder.Abort("b", begun->update_id(), "").code(), StatusCode::kPermissionDenied);
  // By way of its own model either.
  ASSERT_TRUE(intruder.PushVersion("a", 1, tensors_).ok());
  EXPECT_EQ(intruder.Commit("a", begun->update_id()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(intruder.Abort("a", begun->update_id(), "").code(), StatusCode::kNotFound);
  EXPECT_TRUE(owner.Push(ChunksOf(tensors_, 1000, begun->update_id())).ok());
  EXPECT_TRUE(owner.Commit("b", begun->update_id()).ok());
  // Nor does it hear what became of it.
  ExpectError(intruder.Push(ChunksOf(tensors_, 1000, begun->update_id())).status(), StatusCode::kPermissionDenied,
              {"Push", "'b'", "no role on that model"});
}

TEST_F(ServiceAccessTest, AManifestIsKnownToWhoMayPushItsModel) {
  ASSERT_TRUE(StartLogging("info", LogFormat::kText).ok());
  v1::BeginUpdateRequest tensors;
  *tensors.mutable_tensors() = BeginRequest("b", 1, tensors_).tensors();
  // The tensors last, as our senders have them.
  const std::string message = BeginRequest("b", 1, {}).SerializeAsString() + tensors.SerializeAsString();
  const auto begin_again = [&](const std::string& token) {
    return Client(token).RawCall("/weightstream.v1.WeightStream/BeginUpdate", message);
  };
  ASSERT_TRUE(begin_again(kPusherOfB).ok());
  testing::internal::CaptureStderr();
  EXPECT_TRUE(begin_again(kPusherOfB).ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("manifest_known=true"));
  for (const char* token : {kPusherOfA, kReader}) {
    ExpectError(begin_again(token).status(), StatusCode::kPermissionDenied, {"BeginUpdate of model 'b'"});
  }
}

TEST_F(ServiceAccessTest, AReaderReadsAndSeesItsModelsOnly) {
  ASSERT_TRUE(Client(kPusherOfA).PushVersion("a", 1, tensors_).ok());
  ASSERT_TRUE(Client(kPusherOfB).PushVersion("b", 1, tensors_).ok());
  TestClient reader = Client(kReader);
  EXPECT_EQ(reader.PullTensors("a").value(), DataOf(tensors_));
  EXPECT_EQ(reader.PullTensors("b").status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(reader.GetModel("b").status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(reader.Begin(BeginRequest("a", 2, tensors_)).status().code(), StatusCode::kPermissionDenied);
  v1::DigestModelRequest digest;
  digest.set_model("b");
  EXPECT_EQ(reader.Digest(digest).status().code(), StatusCode::kPermissionDenied);
  const auto names = [](TestClient& client) {
    v1::ListModelsResponse response;
    EXPECT_TRUE(client.stub().ListModels(client.Context().get(), {}, &response).ok());
    std::vector<std::string> found;
    for (const v1::Model& model : response.models()) found.push_back(model.name());
    return found;
  };
  EXPECT_EQ(names(reader), std::vector<std::string>{"a"});
  TestClient admin = Client(kAdmin);
  EXPECT_EQ(names(admin), (std::vector<std::string>{"a", "b"}));
}

TEST_F(ServiceAccessTest, ATokenThatIsTakenAwayEndsItsOpenStreams) {
  TestClient pusher = Client(kPusherOfA);
  const auto begun = pusher.Begin(BeginRequest("a", 1, tensors_));
  ASSERT_TRUE(begun.ok());
  const auto push_context = pusher.Context();
  v1::PushResponse response;
  const auto writer = pusher.stub().Push(push_context.get(), &response);
  ASSERT_TRUE(writer->Write(ChunkOf(tensors_[0], 0, 1000, begun->update_id())));
  const auto watch_context = pusher.Context();
  v1::WatchModelRequest request;
  request.set_model("a");
  const auto watch = pusher.stub().WatchModel(watch_context.get(), request);
  v1::Model state;
  ASSERT_TRUE(watch->Read(&state));

  // Another token's line changes: this one's streams go on.
  WriteTestFile(tokens_, absl::StrCat("read b token:new-0123456789abc\n", AllTokens()));
  ASSERT_TRUE(
      WaitFor([&] { return Client("new-0123456789abc").GetModel("b").status().code() == StatusCode::kNotFound; }));
  ASSERT_TRUE(writer->Write(ChunkOf(tensors_[0], 1000, 1000, "")));
  ASSERT_TRUE(WaitFor([&] { return Client(kAdmin).GetModel("a")->updates(0).landed_bytes() == 2000; }));

  WriteTestFile(tokens_, absl::StrCat("admin * token:", kAdmin, "\n"));
  ASSERT_TRUE(WaitFor([&] { return pusher.GetModel("a").status().code() == StatusCode::kUnauthenticated; }));
  while (watch->Read(&state)) continue;
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  static_cast<void>(writer->Write(ChunkOf(tensors_[0], 2000, 1000, "")));
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Client(kAdmin).GetModel("a")->updates(0).landed_bytes(), 2000u);
}

// What looks at models and their device may wait half a minute for a model that is busy. Here it waits longer: where it
// tells that the device has failed, nobody answers.
TEST(ServiceAccessOnADeviceTest, ATokenIsTakenAwayWhileWhatLooksAtModelsWaits) {
  const std::string tokens = absl::StrCat(MakeTestFolder(), "/tokens");
  WriteTestFile(tokens, AllTokens());
  absl::Notification waiting;
  absl::Notification go_on;
  TestServerOptions options;
  options.security.auth_token_file = tokens;
  options.security.allow_plaintext_tokens = true;
  options.cuda = std::make_shared<FakeCudaRuntime>();
  options.on_device_failed = [&] {
    waiting.Notify();
    go_on.WaitForNotification();
  };
  TestServer server(options);
  const absl::Cleanup release = [&] { go_on.Notify(); };
  options.cuda->SetRule(
      [](absl::string_view call, uint64_t) { return call == "CopyToDevice!" ? kCudaIllegalAddress : kCudaSuccess; });
  TestClient pusher(server.server().address(), kPusherOfA);
  EXPECT_FALSE(pusher.PushVersion("a", 1, VariedTensors(1)).ok());
  ASSERT_TRUE(waiting.WaitForNotificationWithTimeout(absl::Seconds(30)));
  WriteTestFile(tokens, absl::StrCat("admin * token:", kAdmin, "\n"));
  EXPECT_TRUE(WaitFor([&] { return pusher.GetModel("a").status().code() == StatusCode::kUnauthenticated; }));
}

}  // namespace
}  // namespace weightstream
