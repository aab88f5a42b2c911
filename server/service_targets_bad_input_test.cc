// RegisterTargets: nothing of what an inference server says of its memory is believed.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/test_registration.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ServiceTargetsBadInputTest : public testing::Test {
 protected:
  static TestServerOptions Options(std::shared_ptr<FakeCudaRuntime> cuda) {
    TestServerOptions options;
    options.limits.staging_bytes = 3000;
    options.cuda = std::move(cuda);
    return options;
  }

  ~ServiceTargetsBadInputTest() override {
    EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; })) << "what was refused, or is over, is closed";
    EXPECT_THAT(cuda_->misuse(), testing::IsEmpty());
  }

  void ExpectRefused(const v1::RegisterTargetsRequest& request, StatusCode code, std::vector<std::string> words) {
    Registration registration(*client_, request);
    EXPECT_FALSE(registration.taken());
    ExpectError(registration.AwaitEnd(), code, words);
    EXPECT_FALSE(client_->GetModel("m").ok() && client_->GetModel("m")->has_targets());
    // The device still works.
    EXPECT_TRUE(client_->Serving("").value());
    EXPECT_EQ(cuda_->open_handles(), 0u);
  }

  v1::RegisterTargetsRequest Request(const std::vector<v1::TargetTensor>& tensors) const {
    return RegistrationOf("m", memory_, tensors);
  }

  const std::shared_ptr<FakeCudaRuntime> cuda_ = std::make_shared<FakeCudaRuntime>(FakeCudaOptions{.devices = 2});
  ForeignMemory memory_{*cuda_, 4096};
  TestServer server_{Options(cuda_)};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
};

TEST_F(ServiceTargetsBadInputTest, AHandleOfAnotherLength) {
  auto request = Request({TargetOf("t", "U8", {10})});
  request.mutable_memory(0)->set_handle("short");
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "64 bytes, and this one 5"});
}

TEST_F(ServiceTargetsBadInputTest, AGarbageHandle) {
  auto request = Request({TargetOf("t", "U8", {10})});
  request.mutable_memory(0)->set_handle(std::string(64, '\x5A'));
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "cudaIpcOpenMemHandle"});
}

TEST_F(ServiceTargetsBadInputTest, AHandleWhoseProcessHasEnded) {
  cuda_->EndOtherProcess();
  ExpectRefused(Request({TargetOf("t", "U8", {10})}), StatusCode::kInvalidArgument, {"memory 0", "still lives"});
}

TEST_F(ServiceTargetsBadInputTest, AnotherDevice) {
  auto request = Request({TargetOf("t", "U8", {10})});
  request.mutable_memory(0)->set_device_uuid(std::string(16, '\xA1'));
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "GPU-a1a1", "GPU-a0a0", "its own device"});
  request.mutable_memory(0)->set_device_uuid("");
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0"});
}

TEST_F(ServiceTargetsBadInputTest, AnotherSize) {
  auto request = Request({TargetOf("t", "U8", {10})});
  request.mutable_memory(0)->set_bytes(4097);
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "4097 bytes", "has 4096"});
  request.mutable_memory(0)->set_bytes(~uint64_t{0});
  request.mutable_memory(0)->set_offset(8);
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "has 4096"});
  request.mutable_memory(0)->set_bytes(0);
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 0", "empty"});
}

TEST_F(ServiceTargetsBadInputTest, ATensorThatLeavesItsMemory) {
  ExpectRefused(Request({TargetOf("t", "F32", {1024}, 4)}), StatusCode::kInvalidArgument,
                {"'t' takes 4096 bytes from 4 on", "memory 0 has 4096"});
  ExpectRefused(Request({TargetOf("t", "U8", {1}, ~uint64_t{0})}), StatusCode::kInvalidArgument, {"'t'"});
  ExpectRefused(Request({TargetOf("t", "F32", {1}, 4096)}), StatusCode::kInvalidArgument, {"'t'"});
  ExpectRefused(Request({TargetOf("t", "F64", {uint64_t{1} << 62, 8}, 0)}), StatusCode::kInvalidArgument,
                {"\"t\"", "more elements than 64 bits"});
}

TEST_F(ServiceTargetsBadInputTest, TensorsThatContradictThemselves) {
  ExpectRefused(Request({}), StatusCode::kInvalidArgument, {"no tensor is registered"});
  ExpectRefused(Request({TargetOf("", "U8", {1})}), StatusCode::kInvalidArgument, {"name"});
  ExpectRefused(Request({TargetOf("t", "FLOAT", {1})}), StatusCode::kInvalidArgument, {"FLOAT"});
  ExpectRefused(Request({TargetOf("t", "U8", {1}), TargetOf("t", "U8", {1}, 8)}), StatusCode::kInvalidArgument,
                {"'t' is registered twice"});
  ExpectRefused(Request({TargetOf("t", "U8", {100}, 0), TargetOf("u", "U8", {100}, 99)}), StatusCode::kInvalidArgument,
                {"'t'", "'u'", "overlap"});
  ExpectRefused(Request({TargetOf("t", "F32", {4}, 2)}), StatusCode::kInvalidArgument, {"'t'", "not aligned", "F32"});
  ExpectRefused(Request({SlicedTargetOf(TargetOf("t", "F32", {4, 4}), 2, 0, 1)}), StatusCode::kInvalidArgument,
                {"'t'", "no dimension 2"});
  ExpectRefused(Request({SlicedTargetOf(TargetOf("t", "F32", {4, 4}), 1, 3, 5)}), StatusCode::kInvalidArgument,
                {"'t'", "[3, 5)"});
  // Aligned in the allocation, but not in the memory, where a cast would count elements.
  auto shifted = Request({TargetOf("t", "F32", {4}, 2)});
  shifted.mutable_memory(0)->set_offset(2);
  shifted.mutable_memory(0)->set_bytes(1000);
  ExpectRefused(shifted, StatusCode::kInvalidArgument, {"'t'", "byte 2 of memory 0", "not aligned", "F32"});
  auto request = Request({TargetOf("t", "U8", {1})});
  request.mutable_tensors(0)->set_memory(1);
  ExpectRefused(request, StatusCode::kInvalidArgument, {"memory 1, and there are 1"});
}

TEST_F(ServiceTargetsBadInputTest, OverlapsAreFoundAcrossNamesOfOneAllocation) {
  auto request = Request({TargetOf("t", "U8", {100}, 1000), TargetOf("u", "U8", {100}, 50)});
  *request.add_memory() = memory_.message();
  request.mutable_memory(1)->set_offset(1000);
  request.mutable_memory(1)->set_bytes(200);
  request.mutable_tensors(1)->set_memory(1);
  ExpectRefused(request, StatusCode::kInvalidArgument, {"'t'", "'u'", "overlap"});
}

TEST_F(ServiceTargetsBadInputTest, ANameThatNoModelMayHave) {
  auto request = Request({TargetOf("t", "U8", {10})});
  request.set_model("../m");
  ExpectRefused(request, StatusCode::kInvalidArgument, {"model"});
}

TEST_F(ServiceTargetsBadInputTest, TheCurrentVersionsManifestIsContradicted) {
  ASSERT_TRUE(client_->PushVersion("m", 1, {MakeTensor("t", DType::kF32, {10, 10}, 1)}).ok());
  ExpectRefused(Request({TargetOf("t", "F32", {100})}), StatusCode::kInvalidArgument,
                {"version 1 of model 'm'", "'t'", "F32[100]", "F32[10, 10]"});
  ExpectRefused(Request({TargetOf("t", "I32", {10, 10})}), StatusCode::kInvalidArgument,
                {"I32[10, 10]", "F32[10, 10]", "casts are between"});
  ExpectRefused(Request({TargetOf("u", "F32", {10, 10})}), StatusCode::kInvalidArgument,
                {"'u'", "none of the manifest's tensors"});
  EXPECT_EQ(client_->GetModel("m")->current_version(), 1u);
}

TEST_F(ServiceTargetsBadInputTest, AnUpdatesManifestContradictsTheTargets) {
  Registration registration(*client_, Request({TargetOf("t", "F32", {10, 10})}));
  ASSERT_TRUE(registration.taken());
  const auto begin = [&](const std::vector<TestTensor>& tensors) {
    return client_->Begin(BeginRequest("m", 1, tensors)).status();
  };
  ExpectError(begin({MakeTensor("t", DType::kF32, {10, 11}, 1)}), StatusCode::kInvalidArgument,
              {"version 1 of model 'm'", "'t'", "F32[10, 10]", "F32[10, 11]"});
  ExpectError(begin({MakeTensor("t", DType::kF64, {10, 10}, 1)}), StatusCode::kInvalidArgument, {"F64[10, 10]"});
  ExpectError(begin({MakeTensor("model.t", DType::kF32, {10, 10}, 1)}), StatusCode::kInvalidArgument,
              {"'t'", "none of the manifest's tensors"});
  ExpectError(begin({MakeTensor("t", DType::kF32, {10, 10}, 1), MakeTensor("u", DType::kU8, {1}, 1)}),
              StatusCode::kInvalidArgument, {"'u' has no target", "partial"});
  EXPECT_TRUE(begin({MakeTensor("t", DType::kF32, {10, 10}, 1)}).ok());
  EXPECT_EQ(registration.End().code(), StatusCode::kCancelled);
}

TEST_F(ServiceTargetsBadInputTest, ASecondRegistrationOfAModel) {
  Registration registration(*client_, Request({TargetOf("t", "U8", {10})}));
  ASSERT_TRUE(registration.taken());
  Registration second(*client_, Request({TargetOf("t", "U8", {10})}));
  ExpectError(second.AwaitEnd(), StatusCode::kFailedPrecondition, {"model 'm' has targets already", "end that call"});
  EXPECT_TRUE(client_->GetModel("m")->has_targets());
  EXPECT_EQ(registration.End().code(), StatusCode::kCancelled);
}

TEST_F(ServiceTargetsBadInputTest, ADeviceWhoseMemoryIsNotShared) {
  for (const TestDevice& device : TestDevices()) {
    if (device.name == "CudaOverFakeRuntime") continue;
    TestServer server(device.Options());
    const auto client = server.NewClient();
    Registration refused(*client, Request({TargetOf("t", "U8", {10})}));
    ExpectError(refused.AwaitEnd(), StatusCode::kUnimplemented, {"memory 0", "cannot open other processes' memory"});
  }
}

}  // namespace
}  // namespace weightstream
