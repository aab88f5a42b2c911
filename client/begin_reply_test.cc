#include "client/begin_reply.h"

#include <gtest/gtest.h>

#include <string>

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
  ASSERT_EQ(missing->size(), 2u);
  EXPECT_EQ((*missing)[0].tensor, 0u);
  EXPECT_EQ((*missing)[1].ranges, (std::vector<ByteRange>{{5, 20}}));
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
