// Versions in a device's memory: beside each other where there is room, in place where there is none, and what becomes
// of them when an update does not come to its end, or the device fails.
#include <atomic>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/error_codes.h"
#include "kernels/host_room.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
// A GPU's memory is handed out in pieces of 2 MiB, one of which the device takes for itself.
constexpr uint64_t kVersionBytes = 4 * kMiB;
constexpr uint64_t kOwnBytes = 2 * kMiB;

std::vector<TestTensor> Tensors(uint64_t seed, uint64_t bytes = kVersionBytes) {
  return {MakeTensor("a", DType::kU8, {bytes / 4}, seed), MakeTensor("b", DType::kU8, {bytes - bytes / 4}, seed + 100)};
}

class ServiceDeviceTest : public testing::TestWithParam<TestDevice> {
 protected:
  // A server whose device has room for so many versions.
  void Start(uint64_t versions) {
    TestServerOptions options = GetParam().Options();
    options.limits.bucket_bytes = kMiB;
    options.limits.staging_bytes = 3 * kMiB;
    options.limits.keep_versions = keep_versions_;
    options.limits.silent_call = silent_call_;
    const uint64_t bytes = versions * kVersionBytes;
    if (options.cuda != nullptr) {
      options.cuda = cuda_ = std::make_shared<FakeCudaRuntime>(FakeCudaOptions{.device_bytes = bytes + kOwnBytes});
    } else {
      options.device.memory = std::make_shared<HostRoom>(bytes);
    }
    server_ = std::make_unique<TestServer>(std::move(options));
    client_ = server_->NewClient();
  }

  absl::Status Push(uint64_t version) { return client_->PushVersion("m", version, Tensors(version)); }

  v1::BeginUpdateResponse Begin(uint64_t version) {
    auto begun = client_->Begin(BeginRequest("m", version, Tensors(version)));
    EXPECT_TRUE(begun.ok()) << begun.status();
    return begun.value_or(v1::BeginUpdateResponse());
  }

  v1::Model State() { return client_->GetModel("m").value(); }

  void ExpectWhole(uint64_t version) {
    const v1::Model state = State();
    EXPECT_EQ(state.weights_state(), v1::WEIGHTS_STATE_WHOLE);
    EXPECT_EQ(state.current_version(), version);
    EXPECT_EQ(state.overwritten_version(), 0u);
    EXPECT_EQ(state.unfinished_version(), 0u);
    EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(version)));
    EXPECT_TRUE(client_->Serving("m").value());
  }

  // That nothing can be read, of the version that was current either.
  void ExpectUnreadable(uint64_t version, const std::vector<std::string>& words) {
    EXPECT_EQ(State().current_version(), 0u);
    EXPECT_EQ(State().overwritten_version(), version);
    v1::DigestModelRequest digest;
    digest.set_model("m");
    for (const uint64_t asked : {uint64_t{0}, version}) {
      ExpectError(client_->PullTensors("m", asked).status(), StatusCode::kFailedPrecondition, words);
      digest.set_version(asked);
      ExpectError(client_->Digest(digest).status(), StatusCode::kFailedPrecondition, words);
    }
    ExpectError(client_->Rollback("m", version).status(), StatusCode::kFailedPrecondition, words);
    EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  }

  uint64_t keep_versions_ = 2;
  absl::Duration silent_call_ = absl::Seconds(30);
  std::shared_ptr<FakeCudaRuntime> cuda_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<TestClient> client_;
};

INSTANTIATE_TEST_SUITE_P(Devices, ServiceDeviceTest, testing::ValuesIn(TestDevicesOfMemory()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ServiceDeviceTest, WithRoomTheNextVersionIsReceivedBesideTheCurrentOne) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).ok());
  EXPECT_EQ(State().updates(0).mode(), v1::UPDATE_MODE_BESIDE);
  ExpectWhole(1);
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(2), kMiB, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  ExpectWhole(2);
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  ExpectWhole(1);
}

TEST_P(ServiceDeviceTest, ASilentUpdateOfAnotherModelMakesRoom) {
  silent_call_ = absl::ZeroDuration();
  Start(1);
  const auto silent = Begin(1);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(1)[0], 0, 1000, silent.update_id())}).ok());
  const auto begun = client_->Begin(BeginRequest("other", 1, Tensors(2)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  ExpectError(client_->Commit("m", silent.update_id()).status(), StatusCode::kAborted,
              {"no chunk for", "another update needed its room"});
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(2), kMiB, begun->update_id())).ok());
  ASSERT_TRUE(client_->Commit("other", begun->update_id()).ok());
  EXPECT_EQ(client_->PullTensors("other").value(), DataOf(Tensors(2)));
}

TEST_P(ServiceDeviceTest, OlderVersionsMakeRoomBeforeAnyIsOverwritten) {
  Start(2);
  for (uint64_t version = 1; version <= 4; ++version) {
    const auto begun = Begin(version);
    EXPECT_EQ(State().updates(0).mode(), v1::UPDATE_MODE_BESIDE);
    if (version > 1) ExpectWhole(version - 1);
    ASSERT_TRUE(client_->Push(ChunksOf(Tensors(version), kMiB, begun.update_id())).ok());
    ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
    ExpectWhole(version);
  }
  EXPECT_EQ(State().versions_size(), 2) << "the third copy had no room, the second has";
}

TEST_P(ServiceDeviceTest, WithoutRoomAnUpdateIsWrittenInPlaceAndSaysSo) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  EXPECT_EQ(State().updates(0).mode(), v1::UPDATE_MODE_IN_PLACE);
  ExpectWhole(1);

  // Its checksum is wrong: nothing was written.
  auto corrupt = ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id());
  corrupt.set_crc32c(corrupt.crc32c() + 1);
  EXPECT_EQ(client_->Push({corrupt}).status().code(), StatusCode::kDataLoss);
  ExpectWhole(1);

  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).ok());
  EXPECT_EQ(State().weights_state(), v1::WEIGHTS_STATE_UPDATING);
  ExpectUnreadable(1, {"version 1 of model 'm' is being overwritten in place", "to version 2"});

  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(2), kMiB, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  ExpectWhole(2);
  EXPECT_EQ(State().versions_size(), 1);
}

TEST_P(ServiceDeviceTest, ManyStreamsStartToOverwriteTogether) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  const auto chunks = ChunksOf(Tensors(2), kMiB / 8, begun.update_id());
  std::vector<std::thread> streams;
  for (size_t stream = 0; stream < 4; ++stream) {
    streams.emplace_back([&, stream] {
      std::vector<v1::WeightChunk> mine;
      for (size_t i = stream; i < chunks.size(); i += 4) mine.push_back(chunks[i]);
      const auto pushed = server_->NewClient()->Push(mine);
      EXPECT_TRUE(pushed.ok()) << pushed.status();
    });
  }
  for (std::thread& stream : streams) stream.join();
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  ExpectWhole(2);
}

TEST_P(ServiceDeviceTest, AnAbortedUpdateInPlaceLeavesNoVersionToTrust) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).ok());
  ASSERT_TRUE(client_->Abort("m", begun.update_id(), "the trainer gave up").ok());
  EXPECT_EQ(State().weights_state(), v1::WEIGHTS_STATE_UNTRUSTED);
  EXPECT_EQ(State().unfinished_version(), 2u);
  ExpectUnreadable(1, {"version 1 of model 'm' cannot be trusted", "version 2", "push a version higher than 1"});
  if (cuda_ != nullptr) {
    EXPECT_TRUE(WaitFor([&] { return cuda_->live_device_bytes() == kOwnBytes; })) << "the memory is free again";
  }

  // Neither can the same version come again, nor is there anything to overwrite.
  EXPECT_EQ(client_->Begin(BeginRequest("m", 1, Tensors(1))).status().code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Push(2).ok());
  ExpectWhole(2);
}

TEST_P(ServiceDeviceTest, AnUpdateInPlaceThatBroughtNothingLeavesTheVersionWhole) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Abort("m", begun.update_id(), "").ok());
  ExpectWhole(1);
  ASSERT_TRUE(Push(3).ok());
  ExpectWhole(3);
}

TEST_P(ServiceDeviceTest, AnUpdateInPlaceIsSupersededByANewerOne) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).ok());
  ASSERT_TRUE(Push(3).ok());
  ExpectWhole(3);
  ExpectError(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).status(), StatusCode::kAborted,
              {"superseded by an update to version 3"});
  ExpectWhole(3);
}

TEST_P(ServiceDeviceTest, AnUpdateInPlaceResumes) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 1000, begun.update_id())}).ok());
  client_ = server_->NewClient();
  const auto resumed = Begin(2);
  EXPECT_TRUE(resumed.resumed());
  EXPECT_EQ(resumed.missing_bytes(), kVersionBytes - 1000);
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(2), kMiB, resumed.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", resumed.update_id()).ok());
  ExpectWhole(2);
}

TEST_P(ServiceDeviceTest, APullInProgressEndsWhereItsVersionIsOverwritten) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  v1::PullRequest request;
  request.set_model("m");
  request.set_bucket_limit_bytes(1000);
  const auto stub = SlowReaderStub(server_->server().address());
  const auto context = NewContext();
  const auto reader = stub->Pull(context.get(), request);
  v1::WeightChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  ASSERT_TRUE(Push(2).ok());
  std::map<std::string, std::string> got;
  do {
    got[chunk.name()] += chunk.data();
  } while (reader->Read(&chunk));
  const grpc::Status ended = reader->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(ended.error_message(), HasSubstr("version 1 of model 'm' is being overwritten in place"));
  for (const auto& [name, data] : got) {
    EXPECT_EQ(data, DataOf(Tensors(1)).at(name).substr(0, data.size())) << "what came before is of version 1 alone";
  }
}

TEST_P(ServiceDeviceTest, AVersionForWhichThereIsNoRoomAtAllIsRefusedWithWhatThereIs) {
  Start(1);
  const uint64_t too_much = 3 * kVersionBytes;
  ExpectError(client_->Begin(BeginRequest("m", 1, Tensors(1, too_much))).status(), StatusCode::kResourceExhausted,
              {"version 1 of model 'm'", absl::StrCat("no ", too_much, " bytes"), "are free"});
  ASSERT_TRUE(Push(1).ok());
  ExpectError(client_->Begin(BeginRequest("m", 2, Tensors(2, too_much))).status(), StatusCode::kResourceExhausted,
              {absl::StrCat("no ", too_much, " bytes"), "nor can it be written over version 1",
               absl::StrCat(kVersionBytes, " bytes")});
  ExpectWhole(1);
  ExpectError(client_->Begin(BeginRequest("other", 1, Tensors(1))).status(), StatusCode::kResourceExhausted,
              {"version 1 of model 'other'"});
}

TEST_P(ServiceDeviceTest, ARefusedUpdateCostsNoVersionThatIsKeptForRollback) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  ASSERT_TRUE(Push(2).ok());
  const uint64_t too_much = 3 * kVersionBytes;
  ExpectError(client_->Begin(BeginRequest("m", 3, Tensors(3, too_much))).status(), StatusCode::kResourceExhausted,
              {absl::StrCat("no ", too_much, " bytes"), "where 0 ",
               absl::StrCat("older versions that could make room hold ", kVersionBytes), "none was removed",
               "nor can it be written over version 2"});
  EXPECT_EQ(State().versions_size(), 2);
  EXPECT_EQ(client_->PullTensors("m", 1).value(), DataOf(Tensors(1)));
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  ExpectWhole(1);
}

TEST_P(ServiceDeviceTest, AnOlderVersionThatMakesNotEnoughRoomStaysBesideAnUpdateInPlace) {
  // One of a half and one of three halves.
  Start(2);
  const auto small = Tensors(1, kVersionBytes / 2);
  const auto large = [](uint64_t version) { return Tensors(version, 3 * kVersionBytes / 2); };
  ASSERT_TRUE(client_->PushVersion("m", 1, small).ok());
  ASSERT_TRUE(client_->PushVersion("m", 2, large(2)).ok());
  ASSERT_TRUE(client_->PushVersion("m", 3, large(3)).ok());
  EXPECT_EQ(State().updates(0).mode(), v1::UPDATE_MODE_IN_PLACE);
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(large(3)));
  EXPECT_EQ(client_->PullTensors("m", 1).value(), DataOf(small));
}

TEST_P(ServiceDeviceTest, NoMoreVersionsGoThanItTakes) {
  keep_versions_ = 9;
  Start(2);
  // Four of a half: for another one the oldest goes, and for one of a whole the two oldest then.
  const auto half = [](uint64_t version) { return Tensors(version, kVersionBytes / 2); };
  for (uint64_t version = 1; version <= 5; ++version)
    ASSERT_TRUE(client_->PushVersion("m", version, half(version)).ok());
  EXPECT_EQ(State().versions_size(), 4);
  EXPECT_EQ(State().versions(0).version(), 2u);
  ASSERT_TRUE(Push(6).ok());
  EXPECT_EQ(State().versions_size(), 3);
  EXPECT_EQ(State().versions(0).version(), 4u);
  EXPECT_EQ(client_->PullTensors("m", 4).value(), DataOf(half(4)));
  ExpectWhole(6);
}

TEST_P(ServiceDeviceTest, ASmallerVersionFitsOverALargerOne) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto smaller = Tensors(2, 3 * kMiB);
  ASSERT_TRUE(client_->PushVersion("m", 2, smaller).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(smaller));
  ASSERT_TRUE(Push(3).ok()) << "the memory is still as large as it was";
  ExpectWhole(3);
}

TEST_P(ServiceDeviceTest, AfterARestartNothingIsHeldAndTheSameVersionCanBePushedAgain) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  server_->Restart();
  client_ = server_->NewClient();
  EXPECT_EQ(client_->GetModel("m").status().code(), StatusCode::kNotFound);
  if (cuda_ != nullptr) {
    EXPECT_EQ(cuda_->live_device_bytes(), kOwnBytes);
  }
  ASSERT_TRUE(Push(1).ok());
  ExpectWhole(1);
}

// ---- A GPU that fails -----------------------------------------------------------------------------------------------

class FailedGpuTest : public testing::Test {
 protected:
  static TestServerOptions Options(std::shared_ptr<FakeCudaRuntime> cuda) {
    TestServerOptions options;
    options.limits.staging_bytes = 3000;
    options.cuda = std::move(cuda);
    return options;
  }

  const std::shared_ptr<FakeCudaRuntime> cuda_ = std::make_shared<FakeCudaRuntime>();
  TestServer server_{Options(cuda_)};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
};

TEST_F(FailedGpuTest, EveryModelIsNotServingAndSaysWhatToDo) {
  for (const std::string model : {"m", "n"}) ASSERT_TRUE(client_->PushVersion(model, 1, VariedTensors(1)).ok());
  EXPECT_EQ(client_->GetModel("m")->device_error(), "");
  cuda_->SetRule([](absl::string_view call, uint64_t) { return call == "CopyToDevice!" ? kCudaIllegalAddress : 0; });
  const absl::Status pushed = client_->PushVersion("m", 2, VariedTensors(2));
  EXPECT_FALSE(pushed.ok());
  EXPECT_THAT(std::string(pushed.message()), HasSubstr("cuda:0"));

  for (const std::string service : {"m", "n", ""}) {
    EXPECT_TRUE(WaitFor([&] { return !client_->Serving(service).value(); })) << service;
  }
  const auto model = client_->GetModel("n");
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->device(), "cuda:0");
  EXPECT_THAT(model->device_error(), HasSubstr("start"));
  EXPECT_FALSE(client_->PullTensors("n").ok());
  const absl::Status begun = client_->Begin(BeginRequest("n", 2, VariedTensors(2))).status();
  EXPECT_THAT(std::string(begun.message()), HasSubstr("cuda:0"));
  EXPECT_EQ(model->current_version(), 1u);
}

TEST_F(FailedGpuTest, AServerWithoutAVersionSaysItToo) {
  v1::ListModelsResponse empty;
  ASSERT_TRUE(client_->stub().ListModels(NewContext().get(), v1::ListModelsRequest(), &empty).ok());
  EXPECT_EQ(empty.models_size(), 0);
  EXPECT_EQ(empty.device(), "cuda:0");
  EXPECT_EQ(empty.device_error(), "");
  cuda_->SetRule([](absl::string_view call, uint64_t) { return call == "CopyToDevice!" ? kCudaIllegalAddress : 0; });
  EXPECT_FALSE(client_->PushVersion("m", 1, VariedTensors(1)).ok());
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("").value(); }));
  v1::ListModelsResponse failed;
  ASSERT_TRUE(client_->stub().ListModels(NewContext().get(), v1::ListModelsRequest(), &failed).ok());
  EXPECT_THAT(failed.device_error(), HasSubstr("start"));
}

TEST_F(FailedGpuTest, WhoRunsTheServerIsToldOnceAndWithoutAVersionToo) {
  std::atomic<int> told{0};
  TestServerOptions options = Options(cuda_);
  options.on_device_failed = [&] { ++told; };
  const TestServer server(options);
  cuda_->SetRule([](absl::string_view call, uint64_t) { return call == "CopyToDevice!" ? kCudaIllegalAddress : 0; });
  EXPECT_FALSE(server.NewClient()->PushVersion("m", 1, VariedTensors(1)).ok());
  EXPECT_TRUE(WaitFor([&] { return told == 1; }));
  server.server().Shutdown(absl::ZeroDuration());
  EXPECT_EQ(told, 1);
}

TEST_F(FailedGpuTest, APassingErrorEndsTheStreamAndNothingElse) {
  ASSERT_TRUE(client_->PushVersion("m", 1, VariedTensors(1)).ok());
  cuda_->SetRule([](absl::string_view call, uint64_t index) {
    return call == "CopyToDevice" && index == 2 ? kCudaInvalidValue : kCudaSuccess;
  });
  EXPECT_FALSE(client_->PushVersion("m", 2, VariedTensors(2)).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(1)));
  EXPECT_TRUE(client_->PushVersion("m", 2, VariedTensors(2)).ok()) << "what is missing is sent again";
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(2)));
  EXPECT_THAT(cuda_->misuse(), testing::IsEmpty());
}

}  // namespace
}  // namespace weightstream
