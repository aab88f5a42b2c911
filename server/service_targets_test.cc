// RegisterTargets: updates that are written straight into an inference server's memory, whole, in slices and cast, and
// what it is told of them.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cast.h"
#include "kernels/checksum.h"
#include "server/test_registration.h"
#include "server/test_server.h"
#include "server/test_targets.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class ServiceTargetsTest : public TargetsTest {};

TEST_F(ServiceTargetsTest, AnUpdateIsWrittenIntoTheTargetsAndNowhereElse) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  EXPECT_EQ(registration.first().state(), v1::WEIGHTS_STATE_NONE);
  const uint64_t device_bytes = cuda_->live_device_bytes();
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  EXPECT_EQ(cuda_->live_device_bytes(), device_bytes) << "no arena was needed";
  const std::string untouched(64, '#');
  EXPECT_EQ(memory_.Bytes(0, 64), untouched);
  EXPECT_EQ(memory_.Bytes(64, 3000), BytesOf(Tensors(1), "w"));
  EXPECT_EQ(memory_.Bytes(3064, 1936), std::string(1936, '#'));
  EXPECT_EQ(memory_.Bytes(5000, 777), BytesOf(Tensors(1), "b"));
  EXPECT_EQ(memory_.Bytes(5777, 64), untouched);

  // It can be read back and digested where it lies.
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(1)));
  v1::DigestModelRequest request;
  request.set_model("m");
  const auto digests = client_->Digest(request);
  ASSERT_TRUE(digests.ok()) << digests.status();
  ASSERT_EQ(digests->size(), 2u);
  for (const v1::TensorDigest& digest : *digests) {
    EXPECT_EQ(digest.crc32c(0), ExtendCrc32c(0, BytesOf(Tensors(1), digest.spec().name())));
  }
  EXPECT_THAT(cuda_->misuse(), testing::IsEmpty());
}

TEST_F(ServiceTargetsTest, TheOwnerIsToldWhatItsMemoryHolds) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const auto expect_next = [&](v1::WeightsState state, uint64_t version, uint64_t next_version,
                               uint64_t overwritten_version = 0, uint64_t unfinished_version = 0) {
    const v1::TargetsState told = registration.Next();
    EXPECT_EQ(told.state(), state);
    EXPECT_EQ(told.version(), version);
    EXPECT_EQ(told.next_version(), next_version);
    EXPECT_EQ(told.overwritten_version(), overwritten_version);
    EXPECT_EQ(told.unfinished_version(), unfinished_version);
  };
  const auto begun = Begin(1);
  expect_next(v1::WEIGHTS_STATE_NONE, 0, 1);
  EXPECT_EQ(State().updates(0).mode(), v1::UPDATE_MODE_REGISTERED);
  EXPECT_EQ(State().targets().tensors(), 2u);
  EXPECT_EQ(State().targets().bytes(), 3777u);
  EXPECT_THAT(State().targets().owner(), HasSubstr("127.0.0.1"));
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(1)[0], 0, 100, begun.update_id())}).ok());
  expect_next(v1::WEIGHTS_STATE_UPDATING, 0, 1, 0, 1);
  EXPECT_EQ(State().targets().state().state(), v1::WEIGHTS_STATE_UPDATING);
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(1), 1000, begun.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun.update_id()).ok());
  expect_next(v1::WEIGHTS_STATE_WHOLE, 1, 0);

  const auto next = Begin(2);
  expect_next(v1::WEIGHTS_STATE_WHOLE, 1, 2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 100, next.update_id())}).ok());
  expect_next(v1::WEIGHTS_STATE_UPDATING, 0, 2, 1, 2);
  ASSERT_TRUE(client_->Abort("m", next.update_id(), "").ok());
  expect_next(v1::WEIGHTS_STATE_UNTRUSTED, 0, 0, 1, 2);

  // A mixture until something of the next one has landed, and then another.
  const auto last = Begin(3);
  expect_next(v1::WEIGHTS_STATE_UNTRUSTED, 0, 3, 1, 2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(3)[0], 0, 100, last.update_id())}).ok());
  expect_next(v1::WEIGHTS_STATE_UPDATING, 0, 3, 1, 3);
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(3), 1000, last.update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", last.update_id()).ok());
  expect_next(v1::WEIGHTS_STATE_WHOLE, 3, 0);
}

TEST_F(ServiceTargetsTest, FreshTargetsAreUpdatingFromTheFirstLandedByteOn) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(registration.taken());
  const auto begun = Begin(1);
  ExpectState(v1::WEIGHTS_STATE_NONE, 0, 0);
  {
    // A sender that dies in the middle of its stream leaves the update in flight.
    v1::PushResponse response;
    const auto context = NewContext();
    const auto stream = client_->stub().Push(context.get(), &response);
    ASSERT_TRUE(stream->Write(ChunkOf(Tensors(1)[0], 0, 1000, begun.update_id())));
    ASSERT_TRUE(WaitFor([&] { return State().updates(0).landed_bytes() == 1000; }));
    context->TryCancel();
    static_cast<void>(stream->Finish());
  }
  ExpectState(v1::WEIGHTS_STATE_UPDATING, 0, 1);
  ExpectError(client_->PullTensors("m").status(), StatusCode::kFailedPrecondition,
              {"version 1 of model 'm' is being written into registered targets", begun.update_id()});
  ASSERT_TRUE(client_->Abort("m", begun.update_id(), "").ok());
  ExpectState(v1::WEIGHTS_STATE_UNTRUSTED, 0, 1);
  ExpectError(client_->PullTensors("m").status(), StatusCode::kFailedPrecondition,
              {"version 1 of model 'm' cannot be trusted"});
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  ExpectState(v1::WEIGHTS_STATE_WHOLE, 0, 0);
}

TEST_F(ServiceTargetsTest, WhatAnIdleUpdateLeavesBehindIsNamed) {
  TestServerOptions options = Options();
  options.limits.idle_update = absl::Seconds(1);
  TestServer server(options);
  const auto client = server.NewClient();
  Registration registration(*client, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(client->PushVersion("m", 1, Tensors(1)).ok());
  const auto begun = client->Begin(BeginRequest("m", 2, Tensors(2)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  // Nothing comes after this, as if its sender were dead.
  ASSERT_TRUE(client->Push({ChunkOf(Tensors(2)[0], 0, 100, begun->update_id())}).ok());
  v1::TargetsState told;
  while (told.state() != v1::WEIGHTS_STATE_UNTRUSTED) {
    const v1::TargetsState next = registration.Next();
    ASSERT_NE(next.state(), v1::WEIGHTS_STATE_UNSPECIFIED) << "the stream has ended";
    told = next;
  }
  EXPECT_EQ(told.overwritten_version(), 1u);
  EXPECT_EQ(told.unfinished_version(), 2u);
  EXPECT_EQ(client->GetModel("m")->weights_state(), v1::WEIGHTS_STATE_UNTRUSTED);
}

TEST_F(ServiceTargetsTest, AnAbortedUpdateLeavesTheTargetsUntrustedUntilTheNextCommit) {
  Registration registration(*client_, RegistrationOf("m", memory_, WholeTargets()));
  ASSERT_TRUE(client_->PushVersion("m", 1, Tensors(1)).ok());
  EXPECT_TRUE(client_->Serving("m").value());
  const auto begun = Begin(2);
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(2)[0], 0, 100, begun.update_id())}).ok());
  ExpectState(v1::WEIGHTS_STATE_UPDATING, 1, 2);
  ExpectError(client_->PullTensors("m").status(), StatusCode::kFailedPrecondition, {"being overwritten in place"});
  ASSERT_TRUE(client_->Abort("m", begun.update_id(), "").ok());
  ExpectState(v1::WEIGHTS_STATE_UNTRUSTED, 1, 2);
  ExpectError(client_->PullTensors("m", 1).status(), StatusCode::kFailedPrecondition, {"cannot be trusted"});
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  ASSERT_TRUE(client_->PushVersion("m", 3, Tensors(3)).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(3)));
  EXPECT_TRUE(client_->Serving("m").value());
}

TEST_F(ServiceTargetsTest, SlicesAreCutOutOfWhatArrives) {
  // As two of three ranks would: rows of one tensor, columns of another.
  const std::vector<TestTensor> tensors = {MakeTensor("columns", DType::kBF16, {30, 50}, 1),
                                           MakeTensor("rows", DType::kF32, {9, 7}, 2),
                                           MakeTensor("other", DType::kU8, {100}, 3)};
  auto request = RegistrationOf("m", memory_,
                                {SlicedTargetOf(TargetOf("columns", "BF16", {30, 50}, 0), 1, 20, 33),
                                 SlicedTargetOf(TargetOf("rows", "F32", {9, 7}, 2000), 0, 3, 6)});
  request.set_partial(true);
  Registration registration(*client_, request);
  ASSERT_TRUE(registration.taken());
  // Chunks begin and end anywhere, between elements too.
  auto begin = BeginRequest("m", 1, tensors);
  const auto begun = client_->Begin(begin);
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_TRUE(client_->Push(ChunksOf(tensors, 37, begun->update_id())).ok());
  ASSERT_TRUE(client_->Commit("m", begun->update_id()).ok());
  std::string columns;
  for (uint64_t row = 0; row < 30; ++row) columns += tensors[0].data.substr((row * 50 + 20) * 2, 13 * 2);
  EXPECT_EQ(memory_.Bytes(0, columns.size()), columns);
  EXPECT_EQ(memory_.Bytes(columns.size(), 2000 - columns.size()), std::string(2000 - columns.size(), '#'));
  EXPECT_EQ(memory_.Bytes(2000, 84), tensors[1].data.substr(84, 84));
  EXPECT_EQ(memory_.Bytes(2084, 100), std::string(100, '#'));
  // What is held only in part cannot be read back, and says so.
  ExpectError(client_->PullTensors("m").status(), StatusCode::kFailedPrecondition, {"'", "cannot be read back"});
}

TEST_F(ServiceTargetsTest, WithoutRoomToCastAnUpdateIsRefusedBeforeItsFirstByte) {
  // 2 MiB of them are for digests.
  const auto cuda = std::make_shared<FakeCudaRuntime>(FakeCudaOptions{.device_bytes = 5 << 20});
  ForeignMemory memory(*cuda, 10'000);
  TestServerOptions options = Options();
  options.cuda = cuda;
  TestServer server(options);
  const auto client = server.NewClient();
  Registration registration(
      *client, RegistrationOf("m", memory, {TargetOf("w", "F32", {30, 50}, 64), TargetOf("b", "U8", {777}, 8000)}));
  ASSERT_TRUE(registration.taken());
  ExpectError(client->Begin(BeginRequest("m", 1, Tensors(1))).status(), StatusCode::kResourceExhausted,
              {"version 1 of model 'm'", "no 4194304 bytes of device memory for casting on arrival",
               "3145728 of 5242880 are free"});
  EXPECT_EQ(memory.Bytes(0, 10'000), std::string(10'000, '#'));
  EXPECT_EQ(client->GetModel("m")->weights_state(), v1::WEIGHTS_STATE_NONE);
  // Without casts there is room.
  static_cast<void>(registration.End());
  ASSERT_TRUE(WaitFor([&] { return !client->GetModel("m").ok() || !client->GetModel("m")->has_targets(); }));
  Registration uncast(*client, RegistrationOf("m", memory, WholeTargets()));
  ASSERT_TRUE(uncast.taken());
  EXPECT_TRUE(client->PushVersion("m", 1, Tensors(1)).ok());
}

TEST_F(ServiceTargetsTest, FloatsAreCastOnArrivalBitForBit) {
  struct Case {
    DType from;
    DType to;
  };
  uint64_t version = 0;
  for (const Case& c :
       {Case{DType::kF32, DType::kBF16}, Case{DType::kF32, DType::kF16}, Case{DType::kBF16, DType::kF32},
        Case{DType::kF16, DType::kF32}, Case{DType::kBF16, DType::kF16}, Case{DType::kF16, DType::kBF16}}) {
    SCOPED_TRACE(absl::StrCat(DTypeName(c.from), " to ", DTypeName(c.to)));
    const std::string model = absl::StrCat("m", ++version);
    const std::vector<TestTensor> tensors = {MakeTensor("w", c.from, {30, 50}, version),
                                             MakeTensor("part", c.from, {20, 10}, version + 1)};
    ForeignMemory memory(*cuda_, 10'000);
    Registration registration(
        *client_,
        RegistrationOf(model, memory,
                       {TargetOf("w", std::string(DTypeName(c.to)), {30, 50}, 64),
                        SlicedTargetOf(TargetOf("part", std::string(DTypeName(c.to)), {20, 10}, 8000), 1, 2, 5)}));
    ASSERT_TRUE(registration.taken());
    ASSERT_TRUE(client_->PushVersion(model, 1, tensors).ok());
    const FloatCast cast = FindFloatCast(c.from, c.to).value();
    const uint64_t from_bytes = CastSourceBytes(cast);
    const uint64_t to_bytes = CastDestinationBytes(cast);
    std::string expected(1500 * to_bytes, '\0');
    CastElements(cast, tensors[0].data.data(), expected.data(), 1500);
    EXPECT_EQ(memory.Bytes(64, expected.size()), expected);
    EXPECT_EQ(memory.Bytes(64 + expected.size(), 8), "########");
    std::string part;
    for (uint64_t row = 0; row < 20; ++row) part += tensors[1].data.substr((row * 10 + 2) * from_bytes, 3 * from_bytes);
    std::string cast_part(60 * to_bytes, '\0');
    CastElements(cast, part.data(), cast_part.data(), 60);
    EXPECT_EQ(memory.Bytes(8000, cast_part.size()), cast_part);
  }
}

TEST_F(ServiceTargetsTest, AChunkThatCutsAnElementIsRefusedWhereItIsCast) {
  Registration registration(*client_, RegistrationOf("m", memory_, {TargetOf("w", "F32", {100})}));
  const std::vector<TestTensor> tensors = {MakeTensor("w", DType::kBF16, {100}, 1)};
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok()) << begun.status();
  for (const auto& [offset, bytes] : {std::pair<uint64_t, uint64_t>{1, 10}, {0, 11}}) {
    ExpectError(client_->Push({ChunkOf(tensors[0], offset, bytes, begun->update_id())}).status(),
                StatusCode::kInvalidArgument, {"tensor 'w'", "F32 instead of BF16", "multiples of 2"});
  }
  EXPECT_EQ(memory_.Bytes(0, 400), std::string(400, '#'));
  EXPECT_EQ(State().targets().state().state(), v1::WEIGHTS_STATE_NONE) << "nothing was written";
  ASSERT_TRUE(client_->Push(ChunksOf(tensors, 10, begun->update_id())).ok());
  EXPECT_TRUE(client_->Commit("m", begun->update_id()).ok());
}

// A copy that has begun cannot be called back, and the next update goes into the same memory: without waiting for it,
// it could come last, and the version be a mixture.
// Nothing brings it into the targets, and readers get what is there.

}  // namespace
}  // namespace weightstream
