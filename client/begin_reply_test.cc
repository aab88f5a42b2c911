#include "client/begin_reply.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <gtest/gtest.h>

#include <string>

#include "proto/begin_codec.h"

namespace weightstream {
namespace {

class CheckBeginReplyTest : public testing::Test {
 protected:
  CheckBeginReplyTest() : index_(specs_) {
    reply_.set_update_id("u");
    reply_.set_bucket_limit_bytes(100);
  }

  void Miss(const std::string& name, uint64_t begin, uint64_t end) {
    v1::TensorRanges& ranges = *reply_.add_missing();
    ranges.set_name(name);
    v1::ByteRange& range = *ranges.add_ranges();
    range.set_begin(begin);
    range.set_end(end);
    reply_.set_missing_bytes(reply_.missing_bytes() + end - begin);
  }

  void ExpectRefused(const std::string& why) {
    const absl::Status status = CheckBeginReply(reply_, index_).status();
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_NE(std::string(status.message()).find(why), std::string::npos) << status;
  }

  const std::vector<TensorSpec> specs_ = {{"a", DType::kU8, {10}}, {"b", DType::kU8, {20}}};
  const ManifestIndex index_;
  v1::BeginUpdateResponse reply_;
};

TEST_F(CheckBeginReplyTest, OrdersWhatIsMissingAsTheSourceDoes) {
  Miss("b", 5, 20);
  Miss("a", 0, 10);
  const auto missing = CheckBeginReply(reply_, index_);
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_FALSE(missing->everything);
  ASSERT_EQ(missing->tensors.size(), 2u);
  EXPECT_EQ(missing->tensors[0].tensor, 0u);
  EXPECT_EQ(missing->tensors[1].ranges, (ByteRanges{{5, 20}}));
}

TEST_F(CheckBeginReplyTest, EverythingMissingIsNotListed) {
  reply_.set_everything_missing(true);
  reply_.set_missing_bytes(30);
  const auto missing = CheckBeginReply(reply_, index_);
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_TRUE(missing->everything);
  EXPECT_TRUE(missing->tensors.empty());
}

TEST_F(CheckBeginReplyTest, RefusesEverythingMissingThatContradictsItself) {
  reply_.set_everything_missing(true);
  reply_.set_missing_bytes(29);
  ExpectRefused("add up to 30 bytes, not to 29");
  reply_.set_missing_bytes(30);
  Miss("a", 0, 10);
  ExpectRefused("everything is missing, and yet it lists");
}

v1::BeginUpdateRequest Parsed(BeginMessage message) {
  v1::BeginUpdateRequest request;
  EXPECT_TRUE(grpc::SerializationTraits<v1::BeginUpdateRequest>::Deserialize(&message.bytes, &request).ok());
  return request;
}

TEST(MakeBeginMessageTest, TensorsComeInTheOrderOfTheLayout) {
  const auto source = NewMemorySource(
      {{{"b", DType::kU8, {1}}, "x"}, {{"a", DType::kU8, {1}}, "y"}, {{"z", DType::kF32, {1}}, "1234"}});
  ASSERT_TRUE(source.ok());
  const ManifestIndex index((*source)->tensors());
  const grpc::Slice manifest = EncodeManifest((*source)->tensors(), index.layout_order());
  const v1::BeginUpdateRequest request = Parsed(MakeBeginMessage(**source, manifest, "m", 1, 0));
  ASSERT_EQ(request.tensors_size(), 3);
  EXPECT_EQ(request.tensors(0).name(), "z");
  EXPECT_EQ(request.tensors(1).name(), "a");
  EXPECT_EQ(request.tensors(2).name(), "b");
  EXPECT_TRUE(request.takes_everything_missing());
}

TEST_F(CheckBeginReplyTest, RefusesATensorThatIsNotOurs) {
  Miss("c", 0, 1);
  ExpectRefused("\"c\"");
}

TEST_F(CheckBeginReplyTest, RefusesARangeOutsideItsTensor) {
  Miss("a", 0, 11);
  ExpectRefused("bytes up to 11 of tensor \"a\", which has 10");
}

TEST_F(CheckBeginReplyTest, RefusesATensorThatIsListedTwice) {
  Miss("a", 0, 1);
  Miss("a", 1, 2);
  ExpectRefused("listed twice");
}

TEST_F(CheckBeginReplyTest, RefusesASumThatDoesNotAddUp) {
  Miss("a", 0, 1);
  reply_.set_missing_bytes(2);
  ExpectRefused("add up to 1");
}

TEST_F(CheckBeginReplyTest, RefusesABucketLimitOfZeroAndAnEmptyId) {
  Miss("a", 0, 1);
  reply_.set_bucket_limit_bytes(0);
  ExpectRefused("bucket limit");
  reply_.clear_update_id();
  ExpectRefused("update id");
}

}  // namespace
}  // namespace weightstream
