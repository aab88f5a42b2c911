#include "tensor/tensor_slice.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

// The bytes of the part, by counting elements.
std::string PartOf(const std::string& data, const TensorSpec& tensor, const TensorSlice& slice) {
  const uint64_t element = static_cast<uint64_t>(DTypeBits(tensor.dtype)) / 8;
  uint64_t inner = 1;
  for (size_t i = slice.dimension + 1; i < tensor.shape.size(); ++i) inner *= tensor.shape[i];
  std::string part;
  for (uint64_t i = 0; i * element < data.size(); ++i) {
    const uint64_t along = i / inner % tensor.shape[slice.dimension];
    if (along >= slice.begin && along < slice.end) part += data.substr(i * element, element);
  }
  return part;
}

TEST(TensorSliceTest, EveryRangeOfTheTensorBecomesItsRangeOfThePart) {
  const TensorSpec tensor{"t", DType::kBF16, {3, 4, 5}};
  // No two bytes alike.
  std::string data(120, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i + 1);
  for (const TensorSlice& slice : {TensorSlice{0, 1, 3}, TensorSlice{1, 0, 1}, TensorSlice{1, 1, 3},
                                   TensorSlice{2, 4, 5}, TensorSlice{2, 0, 5}, TensorSlice{0, 0, 3}}) {
    const std::string part = PartOf(data, tensor, slice);
    const auto map = SliceMap::Create(tensor, slice);
    ASSERT_TRUE(map.ok()) << map.status();
    EXPECT_EQ(map->bytes(), part.size());
    for (uint64_t begin = 0; begin <= data.size(); ++begin) {
      for (uint64_t end = begin; end <= data.size(); ++end) {
        const ByteRange in_part = map->Map({begin, end});
        std::string bytes = data.substr(begin, end - begin);
        map->Compact({begin, end}, bytes.data());
        ASSERT_LE(in_part.end, part.size());
        ASSERT_EQ(bytes.substr(0, in_part.size()), part.substr(in_part.begin, in_part.size()))
            << slice.dimension << " " << slice.begin << " " << begin << " " << end;
      }
    }
    EXPECT_EQ(map->Map({0, 120}), (ByteRange{0, part.size()}));
  }
}

TEST(TensorSliceTest, WithoutASliceThePartIsTheTensor) {
  const auto map = SliceMap::Create({"t", DType::kF4, {4}}, absl::nullopt);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_TRUE(map->whole());
  EXPECT_EQ(map->bytes(), 2u);
  EXPECT_EQ(map->Map({1, 2}), (ByteRange{1, 2}));
  EXPECT_EQ(SliceMap::Create({"t", DType::kF32, {0, 8}}, TensorSlice{1, 0, 4})->bytes(), 0u);
}

TEST(TensorSliceTest, SlicesThatAreNoneAreRefusedByName) {
  const TensorSpec tensor{"odd\n", DType::kF32, {4, 6}};
  ExpectError(SliceMap::Create(tensor, TensorSlice{2, 0, 1}).status(), StatusCode::kInvalidArgument,
              {"'odd", "F32[4, 6]", "no dimension 2"});
  ExpectError(SliceMap::Create(tensor, TensorSlice{1, 2, 7}).status(), StatusCode::kInvalidArgument,
              {"[2, 7)", "dimension 1, which has 6"});
  for (const TensorSlice& empty : {TensorSlice{0, 2, 2}, TensorSlice{0, 3, 1}, TensorSlice{1, ~uint64_t{0}, 0}}) {
    EXPECT_EQ(SliceMap::Create(tensor, empty).status().code(), StatusCode::kInvalidArgument);
  }
  ExpectError(SliceMap::Create({"p", DType::kF4, {4, 4}}, TensorSlice{0, 0, 2}).status(), StatusCode::kInvalidArgument,
              {"packed"});
  EXPECT_EQ(SliceMap::Create({"s", DType::kF32, {}}, TensorSlice{0, 0, 1}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weightstream
