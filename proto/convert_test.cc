#include "proto/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace weightstream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::TensorRanges Ranges(const std::vector<std::pair<uint64_t, uint64_t>>& ranges) {
  v1::TensorRanges message;
  message.set_name("layer.0");
  for (const auto& [begin, end] : ranges) {
    message.add_ranges()->set_begin(begin);
    message.mutable_ranges()->rbegin()->set_end(end);
  }
  return message;
}

void ExpectRangesRefused(const v1::TensorRanges& ranges, const std::string& why) {
  const absl::StatusOr<ByteRanges> result = FromProto(ranges);
  ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("\"layer.0\""));
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(why));
}

TEST(ConvertTest, SpecsOfEveryDTypeSurviveTheRoundTrip) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const TensorSpec spec{"layer.0", static_cast<DType>(i), {2, 0, UINT64_MAX}};
    const v1::TensorSpec message = ToProto(spec);
    EXPECT_EQ(message.name(), "layer.0");
    EXPECT_EQ(message.dtype(), std::string(DTypeName(spec.dtype)));
    EXPECT_THAT(message.shape(), ElementsAre(2, 0, UINT64_MAX));
    const absl::StatusOr<TensorSpec> back = FromProto(message);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, spec);
  }
}

TEST(ConvertTest, ScalarHasNoShapeEntry) {
  const TensorSpec scalar{"scale", DType::kF32, {}};
  EXPECT_THAT(ToProto(scalar).shape(), IsEmpty());
  EXPECT_EQ(*FromProto(ToProto(scalar)), scalar);
}

TEST(ConvertTest, UnknownDTypeNamesTheTensor) {
  v1::TensorSpec message;
  message.set_name("layer.0");
  message.set_dtype("F31");
  const absl::Status status = FromProto(message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"layer.0\""));
  EXPECT_THAT(std::string(status.message()), HasSubstr("F31"));
}

TEST(ConvertTest, RankIsBounded) {
  v1::TensorSpec message = ToProto(TensorSpec{"layer.0", DType::kU8, std::vector<uint64_t>(kMaxTensorRank, 1)});
  EXPECT_TRUE(FromProto(message).ok());
  message.add_shape(1);
  EXPECT_EQ(FromProto(message).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConvertTest, ManifestKeepsItsOrderAndStopsAtTheFirstError) {
  google::protobuf::RepeatedPtrField<v1::TensorSpec> messages;
  const TensorSpec first{"b", DType::kF32, {1}};
  const TensorSpec second{"a", DType::kBF16, {2, 3}};
  *messages.Add() = ToProto(first);
  *messages.Add() = ToProto(second);
  const absl::StatusOr<std::vector<TensorSpec>> specs = FromProto(messages);
  ASSERT_TRUE(specs.ok()) << specs.status();
  EXPECT_THAT(*specs, ElementsAre(first, second));

  messages.Add()->set_name("broken");
  const absl::Status status = FromProto(messages).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"broken\""));
}

TEST(ConvertTest, RangesSurviveTheRoundTrip) {
  const ByteRanges ranges = {{0, 1}, {1, 5}, {7, 7}, {9, UINT64_MAX}};
  const v1::TensorRanges message = ToProto("layer.0", ranges);
  EXPECT_EQ(message.name(), "layer.0");
  const absl::StatusOr<ByteRanges> back = FromProto(message);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, ranges);
  EXPECT_THAT(*FromProto(v1::TensorRanges()), IsEmpty());
}

TEST(ConvertTest, RangeThatEndsBeforeItBeginsIsRefused) {
  ExpectRangesRefused(Ranges({{5, 4}}), "[5, 4) ends before it begins");
  ExpectRangesRefused(Ranges({{0, 1}, {UINT64_MAX, 0}}), "ends before it begins");
}

TEST(ConvertTest, RangesThatOverlapOrDescendAreRefused) {
  ExpectRangesRefused(Ranges({{0, 5}, {4, 6}}), "[4, 6) overlaps or precedes [0, 5)");
  ExpectRangesRefused(Ranges({{8, 9}, {0, 5}}), "[0, 5) overlaps or precedes [8, 9)");
}

TEST(ConvertTest, MetadataSurviveTheRoundTripAndReplaceWhatWasThere) {
  const Metadata metadata = {{"format", "pt"}, {"", "empty key"}, {"empty value", ""}};
  google::protobuf::Map<std::string, std::string> message;
  message["stale"] = "gone";
  ToProto(metadata, &message);
  EXPECT_EQ(message.size(), 3u);
  EXPECT_EQ(FromProto(message), metadata);
}

}  // namespace
}  // namespace weightstream
