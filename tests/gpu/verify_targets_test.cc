// `weightstream verify` against an inference server's memory: that what was cut and cast on its way is what is there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "client/push.h"
#include "client/read.h"
#include "client/weight_source.h"
#include "server/test_registration.h"
#include "server/test_server.h"

namespace weightstream {
namespace {

using ::testing::HasSubstr;

class VerifyTargetsTest : public ::testing::Test {
 protected:
  static TestServerOptions Options(std::shared_ptr<FakeCudaRuntime> cuda) {
    TestServerOptions options;
    options.limits.staging_bytes = 3000;
    options.cuda = std::move(cuda);
    return options;
  }

  std::unique_ptr<WeightSource> Source() const {
    std::vector<MemoryTensor> views;
    for (const TestTensor& tensor : tensors_) views.push_back({tensor.spec, tensor.data});
    return NewMemorySource(views).value();
  }

  absl::StatusOr<VerifyResult> VerifyNow() {
    ReadOptions options;
    options.model = "m";
    return Verify(*Source(), server_.server().address(), options);
  }

  // Columns of one, rows of another as another type, a whole one as another type, one as it is, and one nowhere.
  std::vector<v1::TargetTensor> Targets() const {
    return {SlicedTargetOf(TargetOf("columns", "BF16", {30, 50}, 0), 1, 20, 33),
            SlicedTargetOf(TargetOf("rows", "BF16", {90, 7}, 2000), 0, 30, 60), TargetOf("cast", "F32", {10, 10}, 4000),
            TargetOf("whole", "U8", {777}, 8000)};
  }

  const std::vector<TestTensor> tensors_ = {
      MakeTensor("columns", DType::kBF16, {30, 50}, 1), MakeTensor("rows", DType::kF32, {90, 7}, 2),
      MakeTensor("cast", DType::kF16, {10, 10}, 3), MakeTensor("whole", DType::kU8, {777}, 4),
      MakeTensor("elsewhere", DType::kU8, {100}, 5)};
  const std::shared_ptr<FakeCudaRuntime> cuda_ = std::make_shared<FakeCudaRuntime>();
  ForeignMemory memory_{*cuda_, 10'000};
  TestServer server_{Options(cuda_)};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
};

TEST_F(VerifyTargetsTest, WhatTargetsHoldIsComparedAsTheyHoldItBitForBit) {
  auto request = RegistrationOf("m", memory_, Targets());
  request.set_partial(true);
  Registration registration(*client_, request);
  ASSERT_TRUE(registration.taken());
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());

  const absl::StatusOr<VerifyResult> equal = VerifyNow();
  ASSERT_TRUE(equal.ok()) << equal.status();
  EXPECT_EQ(equal->differing_tensors, 0u);
  EXPECT_EQ(equal->tensors, 5u);
  EXPECT_EQ(equal->converted_tensors, 3u);
  EXPECT_EQ(equal->not_held_tensors, 1u);
  EXPECT_EQ(equal->total_bytes, 30u * 13 * 2 + 30 * 7 * 2 + 400 + 777);

  // Each is read where it lies now: one bit of each, the last byte of the first.
  memory_.Flip(30 * 13 * 2 - 1);
  memory_.Flip(2001);
  memory_.Flip(4000);
  const absl::StatusOr<VerifyResult> three = VerifyNow();
  ASSERT_TRUE(three.ok()) << three.status();
  EXPECT_EQ(three->differing_tensors, 3u);
  for (const Difference& difference : three->differences) {
    if (difference.tensor == "columns") {
      EXPECT_EQ(difference.what, "bytes differ in [0, 780) of what is held: [20, 33) of dimension 1");
    } else if (difference.tensor == "rows") {
      EXPECT_EQ(difference.what, "bytes differ in [0, 420) of what is held: BF16, [30, 60) of dimension 0");
    } else {
      EXPECT_EQ(difference.what, "bytes differ in [0, 400) of what is held: F32");
    }
  }
}

TEST_F(VerifyTargetsTest, WhoDoesNotKnowOfHeldFormsIsRefusedWithTheReason) {
  auto request = RegistrationOf("m", memory_, Targets());
  request.set_partial(true);
  Registration registration(*client_, request);
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());
  v1::DigestModelRequest digest;
  digest.set_model("m");
  const absl::Status refused = client_->Digest(digest).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("cannot be read back"));
  digest.add_names("whole");
  EXPECT_TRUE(client_->Digest(digest).ok()) << "that one is held as it was pushed";
  digest.set_names(0, "elsewhere");
  digest.set_takes_held_form(true);
  const auto nowhere = client_->Digest(digest);
  ASSERT_TRUE(nowhere.ok()) << nowhere.status();
  EXPECT_TRUE(nowhere->front().not_held());
  EXPECT_EQ(nowhere->front().crc32c_size(), 0);
}

// The tensor that can be sent comes first in the layout: nothing of it is.
TEST_F(VerifyTargetsTest, APullOfSlicesAndCastsIsRefusedBeforeItsFirstChunk) {
  Registration registration(
      *client_, RegistrationOf("m", memory_, {TargetOf("f", "F64", {10}), TargetOf("w", "BF16", {100}, 1000)}));
  ASSERT_TRUE(registration.taken());
  ASSERT_TRUE(
      client_->PushVersion("m", 1, {MakeTensor("f", DType::kF64, {10}, 1), MakeTensor("w", DType::kF32, {100}, 2)})
          .ok());
  v1::PullRequest request;
  request.set_model("m");
  const auto context = NewContext();
  const auto reader = client_->stub().Pull(context.get(), request);
  v1::WeightChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk)) << chunk.name();
  const grpc::Status refused = reader->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("tensor 'w' cannot be read back: its target holds BF16"));
}

}  // namespace
}  // namespace weightstream
