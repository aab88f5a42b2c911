#include "tensor/spec.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

void ExpectSize(DType dtype, std::vector<uint64_t> shape, uint64_t bytes) {
  const absl::StatusOr<uint64_t> size = TensorByteSize("t", dtype, shape);
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(*size, bytes);
}

void ExpectNoSize(DType dtype, std::vector<uint64_t> shape, const std::string& part) {
  const absl::Status status = TensorByteSize("layer.weight", dtype, shape).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(HasSubstr("\"layer.weight\""), HasSubstr(part)));
}

TEST(TensorByteSize, IsTheProductOfShapeAndElement) {
  ExpectSize(DType::kF32, {}, 4);
  ExpectSize(DType::kF32, {128, 512}, 128 * 512 * 4);
  ExpectSize(DType::kBF16, {0}, 0);
  ExpectSize(DType::kF4, {3, 2}, 3);
  ExpectSize(DType::kF6E2M3, {4}, 3);
  ExpectSize(DType::kF4, {0}, 0);
}

TEST(TensorByteSize, IsExactUpTo64Bits) {
  ExpectSize(DType::kU8, {kMax}, kMax);
  ExpectSize(DType::kF64, {kMax / 8}, kMax / 8 * 8);
  ExpectSize(DType::kF4, {kMax - 1}, kMax / 2);
  ExpectNoSize(DType::kF64, {kMax / 8 + 1}, "64 bits");
  ExpectNoSize(DType::kU8, {uint64_t{1} << 32, uint64_t{1} << 32}, "64 bits");
  ExpectNoSize(DType::kU8, {3, kMax}, "64 bits");
}

TEST(TensorByteSize, AnEmptyTensorsOtherDimensionsMustNotOverflowInAnyOrder) {
  ExpectSize(DType::kU8, {kMax, 0}, 0);
  ExpectNoSize(DType::kU8, {kMax, kMax, 0}, "64 bits");
  ExpectNoSize(DType::kU8, {0, kMax, kMax}, "64 bits");
}

TEST(TensorByteSize, PackedElementsMustFillWholeBytes) {
  ExpectNoSize(DType::kF4, {3}, "whole bytes");
  ExpectNoSize(DType::kF4, {}, "whole bytes");
  ExpectNoSize(DType::kF6E3M2, {2}, "whole bytes");
}

TEST(TensorByteSize, RankIsBounded) {
  ExpectSize(DType::kU8, std::vector<uint64_t>(kMaxTensorRank, 1), 1);
  ExpectNoSize(DType::kU8, std::vector<uint64_t>(kMaxTensorRank + 1, 1), "65 dimensions");
}

TEST(ShapeString, NamesDTypeAndDimensions) {
  EXPECT_EQ(ShapeString(DType::kF32, {128, 512}), "F32[128, 512]");
  EXPECT_EQ(ShapeString(DType::kBF16, {}), "BF16[]");
  EXPECT_THAT(ShapeString(DType::kU8, std::vector<uint64_t>(100000, 1)), testing::SizeIs(testing::Lt(300u)));
}

TEST(TensorName, AcceptsAnyUtf8UpToTheLimit) {
  for (const std::string& name : {std::string("a"), std::string("model.layers.0/\u5c42 \n"), std::string("..")}) {
    EXPECT_TRUE(ValidateTensorName(name).ok()) << name;
  }
  EXPECT_TRUE(ValidateTensorName(std::string(kMaxTensorNameBytes, 'a')).ok());
}

TEST(TensorName, RefusesEmptyLongReservedNulAndBrokenNames) {
  for (const std::string& name : {std::string(), std::string(kMaxTensorNameBytes + 1, 'a'), std::string("__metadata__"),
                                  std::string("a\0b", 3), std::string("a\xff")}) {
    EXPECT_EQ(ValidateTensorName(name).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(ModelName, AcceptsWhatMayBecomeAFolder) {
  for (const std::string& name : {std::string("a"), std::string("Llama-3.1_8B"), std::string("7b"), std::string("a.."),
                                  std::string(kMaxModelNameBytes, 'a')}) {
    EXPECT_TRUE(ValidateModelName(name).ok()) << name;
  }
}

TEST(ModelName, RefusesEverythingElse) {
  for (const std::string& name :
       {std::string(), std::string(kMaxModelNameBytes + 1, 'a'), std::string("."), std::string(".."), std::string("-a"),
        std::string("_a"), std::string("a/b"), std::string("a b"), std::string("a\n"), std::string("a\0", 2),
        std::string("\u00e9")}) {
    EXPECT_EQ(ValidateModelName(name).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(Manifest, SumsTheSizes) {
  const std::vector<TensorSpec> tensors = {{"a", DType::kF32, {2}}, {"b", DType::kU8, {}}, {"c", DType::kU8, {0}}};
  const absl::StatusOr<uint64_t> bytes = ValidateManifest(tensors);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, 9u);
  EXPECT_EQ(ValidateManifest({}).value(), 0u);
}

TEST(Manifest, RefusesADuplicateABadNameAndABadSize) {
  for (const std::vector<TensorSpec>& tensors : {
           std::vector<TensorSpec>{{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}},
           std::vector<TensorSpec>{{"a", DType::kU8, {1}}, {"b", DType::kU8, {1}}, {"a", DType::kF32, {1}}},
           std::vector<TensorSpec>{{"", DType::kU8, {1}}},
           std::vector<TensorSpec>{{"a", DType::kF4, {1}}},
       }) {
    EXPECT_EQ(ValidateManifest(tensors).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Manifest, TheSumStaysWithin63Bits) {
  const uint64_t half = uint64_t{1} << 62;
  const std::vector<TensorSpec> largest = {{"a", DType::kU8, {half}}, {"b", DType::kU8, {half - 1}}};
  EXPECT_EQ(ValidateManifest(largest).value(), uint64_t{std::numeric_limits<int64_t>::max()});
  const std::vector<TensorSpec> too_large = {{"a", DType::kU8, {half}}, {"b", DType::kU8, {half}}};
  EXPECT_EQ(ValidateManifest(too_large).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<TensorSpec> wraps = {{"a", DType::kU8, {2}}, {"b", DType::kU8, {kMax}}};
  EXPECT_EQ(ValidateManifest(wraps).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weightstream
