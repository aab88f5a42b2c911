#include "tensor/dtype.h"

#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

TEST(DType, NamesAndSizesAreThoseOfSafetensors) {
  // From the Dtype enum of huggingface/safetensors 0.8.
  const std::map<std::string, int> expected_bits = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  std::map<std::string, int> bits;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    bits[std::string(DTypeName(dtype))] = DTypeBits(dtype);
  }
  EXPECT_EQ(bits, expected_bits);
}

TEST(DType, ParseIsTheInverseOfName) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    const absl::StatusOr<DType> parsed = ParseDType(DTypeName(dtype));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, dtype);
  }
}

TEST(DType, NamesOfTheEnumAndOfTheFormatBelongTogether) {
  EXPECT_EQ(DTypeName(DType::kBF16), "BF16");
  EXPECT_EQ(DTypeName(DType::kF16), "F16");
  EXPECT_EQ(DTypeName(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(DTypeName(DType::kF6E2M3), "F6_E2M3");
  EXPECT_EQ(DTypeName(DType::kU64), "U64");
}

TEST(DType, UnknownNamesAreRefusedWithTheKnownOnes) {
  for (const char* name : {"", "bf16", "BF16 ", "BF1", "F128", "float32", "BF\n16"}) {
    const absl::Status status = ParseDType(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("BOOL F4 F6_E2M3"));
  }
}

TEST(DType, AlignmentIsTheElementSizeAndOneForPackedTypes) {
  EXPECT_EQ(DTypeAlignment(DType::kF4), 1);
  EXPECT_EQ(DTypeAlignment(DType::kF6E3M2), 1);
  EXPECT_EQ(DTypeAlignment(DType::kBool), 1);
  EXPECT_EQ(DTypeAlignment(DType::kBF16), 2);
  EXPECT_EQ(DTypeAlignment(DType::kF32), 4);
  EXPECT_EQ(DTypeAlignment(DType::kC64), 8);
}

}  // namespace
}  // namespace weightstream
