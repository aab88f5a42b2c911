// RegisterTargets: what becomes of targets, of updates into them and of the versions there when either side goes, or
// another one comes.
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/status.h"
#include "server/test_child.h"
#include "server/test_registration.h"
#include "server/test_server.h"
#include "server/test_targets.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ServiceRegistrationTest : public TargetsTest {
 protected:
  // An inference server, as a process of its own, has registered the memory at this server, and a sender is in the
  // middle of its stream.
  void RegisterAndPushAPart(TestServer& server, TestClient& client) {
    const v1::DeviceMemory memory = memory_.message();
    inference_server_ = std::make_unique<TestChild>(std::vector<std::string>{
        "server/lease_holder", "register", server.server().address(), "m", absl::BytesToHexString(memory.handle()),
        absl::BytesToHexString(memory.device_uuid()), "10000"});
    ASSERT_EQ(inference_server_->ReadLine(), "held");
    const auto begun = client.Begin(BeginRequest("m", 1, {tensor_}));
    ASSERT_TRUE(begun.ok()) << begun.status();
    update_id_ = begun->update_id();
    stream_ = client.stub().Push(context_.get(), &response_);
    ASSERT_TRUE(stream_->Write(ChunkOf(tensor_, 0, 1000, update_id_)));
    ASSERT_TRUE(WaitFor([&] { return client.GetModel("m")->updates(0).landed_bytes() == 1000; }));
  }

  const TestTensor tensor_ = MakeTensor("t", DType::kU8, {10'000}, 1);
  std::unique_ptr<TestChild> inference_server_;
  std::string update_id_;
  // Of the stream.
  v1::PushResponse response_;
  const std::unique_ptr<grpc::ClientContext> context_ = NewContext();
  std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> stream_;
};

TEST_F(ServiceRegistrationTest, UnregisteringClosesTheMemoryAndForgetsTheVersionInIt) {
  {
    Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
    ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  }
  EXPECT_TRUE(WaitFor([&] { return !State().has_targets(); }));
  EXPECT_EQ(State().current_version(), 0u);
  EXPECT_EQ(State().versions_size(), 0);
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
  // Without targets versions are the server's own again.
  ASSERT_TRUE(client_->PushVersion("m", 2, Tensors(2)).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(2)));
  EXPECT_EQ(memory_.Bytes(5000, 777), BytesOf(Tensors(1), "b")) << "not written any more";
}

TEST_F(ServiceRegistrationTest, AnInferenceServerThatDiesInMidUpdateEndsTheUpdateWithItsCause) {
  ASSERT_NO_FATAL_FAILURE(RegisterAndPushAPart(server_, *client_));
  EXPECT_EQ(memory_.Bytes(0, 1000), tensor_.data.substr(0, 1000));
  EXPECT_EQ(State().targets().state().state(), v1::WEIGHTS_STATE_UPDATING);

  inference_server_->Kill();
  const absl::Status ended = FromGrpcStatus(stream_->Finish());
  ExpectError(ended, StatusCode::kAborted,
              {"the inference server", "into whose memory it was written", "connection was lost"});
  EXPECT_TRUE(WaitFor([&] { return !State().has_targets(); }));
  EXPECT_EQ(State().updates(0).state(), v1::UPDATE_STATE_ABORTED);
  ExpectError(client_->Commit("m", update_id_).status(), StatusCode::kAborted, {"the inference server"});
  // Its memory is gone, and what was half-written there stays named until a version is whole.
  ExpectState(v1::WEIGHTS_STATE_UNTRUSTED, 0, 1);
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
}

// Its connection lives on in the kernel, so that nothing but the unanswered ping tells.
TEST_F(ServiceRegistrationTest, AnInferenceServerThatIsStoppedLosesItsRegistrationWithinTheKeepalive) {
  TestServerOptions options = Options();
  options.limits.keepalive_time = absl::Seconds(1);
  // Of the test's own connections too, on a machine that is busy.
  options.limits.keepalive_timeout = absl::Seconds(5);
  TestServer server(options);
  const auto client = server.NewClient();
  const auto state = [&] { return client->GetModel("m").value(); };
  ASSERT_NO_FATAL_FAILURE(RegisterAndPushAPart(server, *client));

  inference_server_->Stop();
  EXPECT_TRUE(WaitFor([&] { return !state().has_targets(); }));
  ExpectError(FromGrpcStatus(stream_->Finish()), StatusCode::kAborted,
              {"the inference server", "into whose memory it was written", "connection was lost"});
  EXPECT_EQ(state().weights_state(), v1::WEIGHTS_STATE_UNTRUSTED);
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
  // Once it runs again it learns of it.
  inference_server_->Continue();
  EXPECT_EQ(inference_server_->ReadLine().substr(0, 3), absl::StrCat(grpc::StatusCode::UNAVAILABLE, " "));
}

TEST_F(ServiceRegistrationTest, TheNextUpdateWaitsForWhatIsLeftOfTheOneBefore) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  v1::PushResponse response;
  const auto context = NewContext();
  const auto stream = StartACopyThatIsHeld(Begin(1).update_id(), *context, response);
  ASSERT_TRUE(client_->Abort("m", State().updates(0).update_id(), "").ok());
  ExpectError(client_->Begin(BeginRequest("m", 2, Tensors(2))).status(), StatusCode::kUnavailable,
              {"version 2 of model 'm'", "copies of the update before", "try again later"});
  cuda_->HoldStreams(false);
  EXPECT_EQ(FromGrpcStatus(stream->Finish()).code(), StatusCode::kAborted);
  ASSERT_TRUE(client_->PushVersion("m", 3, Tensors(3)).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(3)));
}

TEST_F(ServiceRegistrationTest, TargetsAreShownAsLongAsSomethingMayBeWrittenThere) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  v1::PushResponse response;
  const auto context = NewContext();
  const auto stream = StartACopyThatIsHeld(Begin(1).update_id(), *context, response);
  static_cast<void>(registration.End());
  EXPECT_TRUE(WaitFor([&] { return State().updates(0).state() == v1::UPDATE_STATE_ABORTED; }));
  EXPECT_TRUE(State().has_targets());
  EXPECT_EQ(cuda_->open_handles(), 1u);
  cuda_->HoldStreams(false);
  EXPECT_EQ(FromGrpcStatus(stream->Finish()).code(), StatusCode::kAborted);
  EXPECT_TRUE(WaitFor([&] { return !State().has_targets(); }));
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
}

TEST_F(ServiceRegistrationTest, TargetsAreShownUntilACopyThatOutlastsAllPatienceIsDone) {
  TestServerOptions options = Options();
  options.limits.copy_wait = absl::Seconds(1);
  TestServer server(options);
  const auto client = server.NewClient();
  const absl::Cleanup go_on = [&] { cuda_->HoldStreams(false); };
  const auto state = [&] { return client->GetModel("m").value(); };
  ASSERT_TRUE(client->PushVersion("m", 1, Tensors(1)).ok());
  Registration registration(*client, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const auto begun = client->Begin(BeginRequest("m", 2, Tensors(2)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  v1::PushResponse response;
  const auto context = NewContext();
  const auto stream = StartACopyThatIsHeld(*client, begun->update_id(), *context, response);
  ASSERT_TRUE(WaitFor([&] { return !client->Serving("m").value(); }));
  static_cast<void>(registration.End());
  // The version of the server's own is the model's again as soon as the server waits for the copy no more.
  ASSERT_TRUE(WaitFor([&] { return client->Serving("m").value(); }));
  EXPECT_EQ(state().weights_state(), v1::WEIGHTS_STATE_WHOLE);
  ASSERT_TRUE(state().has_targets());
  EXPECT_EQ(state().targets().state().state(), v1::WEIGHTS_STATE_UNTRUSTED);
  EXPECT_EQ(state().targets().state().unfinished_version(), 2u);
  EXPECT_EQ(cuda_->open_handles(), 1u);
  EXPECT_EQ(memory_.Bytes(64, 1000), std::string(1000, '#'));
  cuda_->HoldStreams(false);
  EXPECT_TRUE(WaitFor([&] { return !state().has_targets(); }));
  EXPECT_EQ(cuda_->open_handles(), 0u) << "it was closed before it was shown no more";
  EXPECT_NE(memory_.Bytes(64, 1000), std::string(1000, '#')) << "it was written until then";
  EXPECT_FALSE(FromGrpcStatus(stream->Finish()).ok());
  // Nobody waits for it any more, and the next may come.
  Registration next(*client, RegistrationOf("m", memory_, WholeTargets()));
  EXPECT_TRUE(next.taken());
}

TEST_F(ServiceRegistrationTest, TheNextRegistrationWaitsUntilTheTargetsBeforeAreClosed) {
  TestServerOptions options = Options();
  options.limits.copy_wait = absl::Seconds(1);
  TestServer server(options);
  const auto client = server.NewClient();
  const absl::Cleanup go_on = [&] { cuda_->HoldStreams(false); };
  ASSERT_TRUE(client->PushVersion("m", 1, Tensors(1)).ok());
  Registration first(*client, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(first.taken());
  const auto begun = client->Begin(BeginRequest("m", 2, Tensors(2)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  v1::PushResponse response;
  const auto context = NewContext();
  const auto stream = StartACopyThatIsHeld(*client, begun->update_id(), *context, response);
  ASSERT_TRUE(WaitFor([&] { return !client->Serving("m").value(); }));
  static_cast<void>(first.End());
  ASSERT_TRUE(WaitFor([&] { return client->Serving("m").value(); }));
  // It is refused before its memory is closed, which waits for the streams as CUDA does.
  ForeignMemory restarted(*cuda_, 10'000);
  absl::Status refused;
  std::thread second(
      [&] { refused = Registration(*client, RegistrationOf("m", restarted, WholeTargets())).AwaitEnd(); });
  ASSERT_TRUE(WaitFor([&] { return cuda_->calls()["IpcCloseMemHandle"] > 0; }));
  EXPECT_TRUE(client->GetModel("m")->has_targets());
  cuda_->HoldStreams(false);
  second.join();
  ExpectError(refused, StatusCode::kUnavailable, {"targets of model 'm'", "still in use", "try again later"});
  EXPECT_FALSE(FromGrpcStatus(stream->Finish()).ok());
  ASSERT_TRUE(WaitFor([&] { return !client->GetModel("m")->has_targets(); }));
  Registration third(*client, RegistrationOf("m", restarted, WholeTargets()));
  EXPECT_TRUE(third.taken());
}

TEST_F(ServiceRegistrationTest, APullInProgressEndsWithTheRegistration) {
  constexpr uint64_t kBytes = 8 << 20;
  ForeignMemory memory(*cuda_, kBytes);
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {kBytes}, 1)};
  Registration registration(*client_, RegistrationOf("large", memory, {TargetOf("t", "U8", {kBytes})}));
  ASSERT_TRUE(registration.taken());
  ASSERT_TRUE(client_->PushVersion("large", 1, tensors).ok());
  v1::PullRequest request;
  request.set_model("large");
  request.set_bucket_limit_bytes(1000);
  const auto stub = SlowReaderStub(server_.server().address());
  const auto context = NewContext();
  const auto reader = stub->Pull(context.get(), request);
  v1::WeightChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  static_cast<void>(registration.End());
  ASSERT_TRUE(WaitFor([&] { return !client_->GetModel("large")->has_targets(); }));
  // From now on the owner does with it what it likes.
  memory.Fill('!');
  std::string got;
  do {
    got += chunk.data();
  } while (reader->Read(&chunk));
  ExpectError(FromGrpcStatus(reader->Finish()), StatusCode::kFailedPrecondition,
              {"version 1 of model 'large' lay in memory that the inference server", "held no more"});
  EXPECT_TRUE(got == tensors[0].data.substr(0, got.size())) << "what came before is of the version alone";
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
}

TEST_F(ServiceRegistrationTest, WhatARegistrationThatEndsInMidUpdateHeldIsNamedUntilTheNextCommit) {
  {
    Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
    ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
    const auto begun = Begin(2);
    ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 100, begun.update_id())}).ok());
  }
  ASSERT_TRUE(WaitFor([&] { return !State().has_targets(); }));
  ExpectState(v1::WEIGHTS_STATE_UNTRUSTED, 1, 2);
  ForeignMemory restarted(*cuda_, 10'000);
  Registration second(*client_, RegistrationOf("m", restarted, WholeTargets()));
  ASSERT_TRUE(second.taken());
  EXPECT_EQ(second.first().state(), v1::WEIGHTS_STATE_NONE) << "its memory holds nothing of them";
  const auto begun = Begin(3);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(3)[0], 0, 100, begun.update_id())}).ok());
  ExpectState(v1::WEIGHTS_STATE_UPDATING, 0, 3);
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(3), 1000, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  ExpectState(v1::WEIGHTS_STATE_WHOLE, 0, 0);
}

TEST_F(ServiceRegistrationTest, TheNextInferenceServerTakesOver) {
  { Registration first(*client_, RegistrationOf("m", memory_, WholeTargets())); }
  EXPECT_TRUE(WaitFor([&] { return !client_->GetModel("m").ok() || !State().has_targets(); }));
  ForeignMemory restarted(*cuda_, 10'000);
  Registration second(*client_, RegistrationOf("m", restarted, WholeTargets()));
  ASSERT_TRUE(second.taken());
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  EXPECT_EQ(restarted.Bytes(5000, 777), BytesOf(Tensors(1), "b"));
  EXPECT_EQ(memory_.Bytes(5000, 777), std::string(777, '#'));
}

TEST_F(ServiceRegistrationTest, AVersionOfTheServersOwnStaysWholeWhileTheTargetsAreFirstWritten) {
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 100, begun.update_id())}).ok());
  // What the inference server has is a mixture, whatever else is held here.
  ExpectState(v1::WEIGHTS_STATE_UPDATING, 0, 2);
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  EXPECT_EQ(State().current_version(), 1u);
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(1)));
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(2), 1000, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(2)));
}

TEST_F(ServiceRegistrationTest, AVersionOfTheServersOwnIsFreedByTheFirstCommitIntoTheTargets) {
  const uint64_t before = cuda_->live_device_bytes();
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  EXPECT_GT(cuda_->live_device_bytes(), before);
  ASSERT_TRUE(client_->PushVersion("m", 2, Tensors(2)).ok());
  EXPECT_EQ(State().versions_size(), 1);
  EXPECT_EQ(State().versions(0).version(), 2u);
  EXPECT_TRUE(WaitFor([&] { return cuda_->live_device_bytes() == before; }));
  ExpectError(client_->Rollback("m", 1).status(), StatusCode::kNotFound, {"does not hold version 1"});
}

TEST_F(ServiceRegistrationTest, RollingBackToAVersionOfTheServersOwnIsRefused) {
  for (const uint64_t version : {1, 2}) ASSERT_TRUE(client_->PushVersion("m", version, Tensors(version)).ok());
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  ExpectError(client_->Rollback("m", 1).status(), StatusCode::kFailedPrecondition, {"not the one in the targets"});
}

TEST_F(ServiceRegistrationTest, AnUpdateThatWasBegunBeforeTheRegistrationIsSuperseded) {
  const auto begun = Begin(1);
  v1::PushResponse response;
  const auto context = NewContext();
  const auto stream = client_->stub().Push(context.get(), &response);
  ASSERT_TRUE(stream->Write(ChunkOf(Tensors(1)[0], 0, 1000, begun.update_id())));
  ASSERT_TRUE(WaitFor([&] { return State().updates(0).landed_bytes() == 1000; }));
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const std::vector<std::string> why = {"superseded by the targets that", "127.0.0.1", "begin it again"};
  ExpectError(FromGrpcStatus(stream->Finish()), StatusCode::kAborted, why);
  ExpectError(client_->Commit("m", begun.update_id()).status(), StatusCode::kAborted, why);
  EXPECT_EQ(State().current_version(), 0u);
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  EXPECT_EQ(memory_.Bytes(64, 3000), BytesOf(Tensors(1), "w"));
}

TEST_F(ServiceRegistrationTest, ARegistrationThatIsRefusedSupersedesNothing) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const auto begun = Begin(1);
  ForeignMemory other(*cuda_, 10'000);
  EXPECT_FALSE(Registration(*client_, RegistrationOf("m", other, WholeTargets())).taken());
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(1), 1000, begun.update_id())).ok());
  EXPECT_TRUE(client_->Commit("m", begun.update_id()).ok());
}

TEST_F(ServiceRegistrationTest, MemoryBelongsToOneModel) {
  // Neighbours in one allocation are none of each other's business.
  Registration first(*client_, RegistrationOf("first", memory_, {TargetOf("w", "U8", {1000})}));
  Registration neighbour(*client_, RegistrationOf("neighbour", memory_, {TargetOf("v", "U8", {1000}, 1000)}));
  ASSERT_TRUE(first.taken() && neighbour.taken());
  const auto refused =
      RegistrationOf("second", memory_, {TargetOf("u", "U8", {10}, 5000), TargetOf("t", "U8", {2}, 999)});
  ExpectError(Registration(*client_, refused).AwaitEnd(), StatusCode::kAlreadyExists,
              {"tensor 't' of model 'second' overlaps", "tensor 'w' of model 'first'", "127.0.0.1"});
  EXPECT_FALSE(client_->GetModel("second").ok() && client_->GetModel("second")->has_targets());
  // Once it is let go of, it may be another's.
  static_cast<void>(first.End());
  static_cast<void>(neighbour.End());
  EXPECT_TRUE(WaitFor([&] { return Registration(*client_, refused).taken(); }));
}

TEST_F(ServiceRegistrationTest, AVersionOfTheServersOwnIsWholeAgainWithoutTheTargets) {
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  {
    Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
    const auto begun = Begin(2);
    ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 100, begun.update_id())}).ok());
    ASSERT_TRUE(client_->Abort("m", begun.update_id(), "").ok());
    ExpectState(v1::WEIGHTS_STATE_UNTRUSTED, 0, 2);
    EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  }
  ASSERT_TRUE(WaitFor([&] { return !State().has_targets(); }));
  ExpectState(v1::WEIGHTS_STATE_WHOLE, 0, 0);
  EXPECT_TRUE(WaitFor([&] { return client_->Serving("m").value(); }));
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(1)));
}

TEST_F(ServiceRegistrationTest, AShutdownLetsTheUpdateFinishAndThenGoOfTheTargets) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  const auto begun = Begin(1);
  std::thread stopper([&] { server_.server().Shutdown(absl::Seconds(20)); });
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("").value(); }));
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(1), 1000, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  EXPECT_EQ(memory_.Bytes(64, 3000), BytesOf(Tensors(1), "w"));
  ExpectError(registration.AwaitEnd(), StatusCode::kUnavailable, {"shutting down"});
  stopper.join();
  EXPECT_TRUE(WaitFor([&] { return cuda_->open_handles() == 0; }));
}

}  // namespace
}  // namespace weightstream
