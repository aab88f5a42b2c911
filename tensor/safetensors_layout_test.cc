// Laying out and encoding, and that what is encoded parses to the same layout.
#include "tensor/safetensors_layout.h"

#include <algorithm>
#include <limits>
#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

std::vector<std::string> NamesOf(const SafetensorsLayout& layout) {
  std::vector<std::string> names;
  for (const PlacedTensor& tensor : layout.tensors) names.push_back(tensor.spec.name);
  return names;
}

SafetensorsLayout LayOut(const std::vector<TensorSpec>& tensors, Metadata metadata = {}) {
  absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(tensors, std::move(metadata));
  EXPECT_TRUE(layout.ok()) << layout.status();
  return layout.value();
}

void ExpectRoundTrip(const SafetensorsLayout& layout) {
  const std::string header = EncodeSafetensorsHeader(layout);
  EXPECT_EQ(header.size(), layout.data_start);
  const absl::StatusOr<SafetensorsLayout> parsed = ParseSafetensors("f", header, layout.file_bytes());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(*parsed == layout) << header;
}

TEST(LayOut, OrdersByFallingAlignmentThenByNameBytewise) {
  const SafetensorsLayout layout = LayOut({{"z", DType::kI64, {1}},
                                           {"b", DType::kF32, {1}},
                                           {"B", DType::kU32, {1}},
                                           {"\u00e9", DType::kI32, {1}},
                                           {"a", DType::kU8, {1}},
                                           {"0", DType::kF4, {2}},
                                           {"c", DType::kBF16, {1}}});
  EXPECT_THAT(NamesOf(layout), testing::ElementsAre("z", "B", "b", "\u00e9", "c", "0", "a"));
  EXPECT_EQ(layout.data_bytes, 8u + 4 + 4 + 4 + 2 + 1 + 1);
  ExpectRoundTrip(layout);
}

TEST(LayOut, NamesThatBeginAlikeAreOrderedByteByByte) {
  std::vector<std::string> names = {"model.", "model.\u00e9", "model.layers.0", "model.layers.0.weight"};
  for (int i = 0; i < 1200; i += 7) {
    names.push_back(absl::StrCat("model.layers.", i));
    names.push_back(absl::StrCat("model.experts.", i, ".weight"));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const absl::string_view ahead : {"", "a prefix of all that is longer than the eight bytes: "}) {
    std::vector<TensorSpec> tensors;
    std::vector<std::string> expected;
    for (const std::string& name : names) expected.push_back(absl::StrCat(ahead, name));
    for (const std::string& name : expected) tensors.push_back({name, DType::kF32, {1}});
    std::shuffle(tensors.begin(), tensors.end(), std::mt19937(5));
    EXPECT_THAT(NamesOf(LayOut(tensors)), testing::ElementsAreArray(expected));
  }
}

TEST(LayOut, AnOddRunOfSmallElementsDoesNotMisalignLargerOnes) {
  const SafetensorsLayout layout = LayOut({{"a", DType::kBF16, {3}}, {"b", DType::kF32, {1}}, {"c", DType::kU8, {7}}});
  EXPECT_THAT(NamesOf(layout), testing::ElementsAre("b", "a", "c"));
  for (const PlacedTensor& tensor : layout.tensors) {
    EXPECT_EQ((layout.data_start + tensor.range.begin) % DTypeAlignment(tensor.spec.dtype), 0u) << tensor.spec.name;
  }
}

TEST(LayOut, TheHeaderIsTheSameFromTensorsThatStayWhereTheyAre) {
  const std::vector<TensorSpec> tensors = {{"b\"\n", DType::kBF16, {3, 5}},
                                           {"a", DType::kU8, {}},
                                           {"e", DType::kF32, {0, uint64_t{1} << 40}},
                                           {"many", DType::kF64, std::vector<uint64_t>(kMaxTensorRank, 1)}};
  for (const Metadata& metadata : {Metadata(), Metadata{{"format", "pt"}, {"k\t", "\\"}}}) {
    std::string header;
    const absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(tensors, metadata, &header);
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(EncodeSafetensorsHeader(*layout), header);
    EXPECT_EQ(SafetensorsHeaderInOrder(tensors, LayoutOrder(tensors), metadata).value(), header);
  }
  EXPECT_FALSE(SafetensorsHeaderInOrder(tensors, LayoutOrder(tensors), {{"k", "\xff"}}).ok());
}

// The longest that there can be: nothing in the way of a number may be cut.
TEST(LayOut, TheLargestNumbersAreWrittenWhole) {
  constexpr uint64_t kLargest = std::numeric_limits<uint64_t>::max();
  std::vector<uint64_t> many(kMaxTensorRank, 1);
  many[0] = 0;
  many[1] = kLargest;
  ExpectRoundTrip(LayOut({{"t", DType::kF8E4M3FNUZ, many},
                          {"u", DType::kU8, {uint64_t{1} << 62}},
                          {"v", DType::kF8E5M2FNUZ, {kLargest, 0}}}));
  // Made by hand, and more than a valid one has.
  SafetensorsLayout invalid = LayOut({{"t", DType::kU8, {1}}});
  invalid.tensors[0].spec.shape.assign(1000, kLargest);
  EXPECT_FALSE(ParseSafetensors("f", EncodeSafetensorsHeader(invalid), invalid.file_bytes()).ok());
}

TEST(LayOut, TheDataSectionStartsOnAPage) {
  for (size_t name_bytes = 1; name_bytes < 4096; name_bytes += 37) {
    const SafetensorsLayout layout = LayOut({{std::string(name_bytes, 'n'), DType::kU8, {1}}});
    EXPECT_EQ(layout.data_start % kSafetensorsDataAlignment, 0u);
    EXPECT_LE(layout.data_start, 8192u);
    ExpectRoundTrip(layout);
  }
}

TEST(LayOut, IsTheSameWhateverTheOrder) {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 50; ++i) {
    tensors.push_back({absl::StrCat("t", i), static_cast<DType>(i % kDTypeCount), {static_cast<uint64_t>(i % 3) * 4}});
  }
  const std::string expected = EncodeSafetensorsHeader(LayOut(tensors, {{"a", "1"}, {"b", "2"}}));
  std::mt19937 random(7);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(tensors.begin(), tensors.end(), random);
    EXPECT_EQ(EncodeSafetensorsHeader(LayOut(tensors, {{"b", "2"}, {"a", "1"}})), expected);
  }
}

TEST(LayOut, RefusesABadManifestAndMetadataThatAreNotUtf8) {
  const std::vector<TensorSpec> twice = {{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}};
  ExpectError(LayOutSafetensors(twice, {}).status(), absl::StatusCode::kInvalidArgument, {"\"a\"", "twice"});
  ExpectError(LayOutSafetensors({}, {{"k", "\xff"}}).status(), absl::StatusCode::kInvalidArgument, {"\"k\"", "UTF-8"});
  ExpectError(LayOutSafetensors({}, {{"\xff", ""}}).status(), absl::StatusCode::kInvalidArgument, {"UTF-8"});
}

TEST(LayOut, TheHeaderStaysWithinTheFormatsCapWithItsPadding) {
  // The largest data_start that is a multiple of a page and keeps the header, padding included, within the cap.
  const uint64_t largest_start =
      (kMaxSafetensorsHeaderBytes + 8) / kSafetensorsDataAlignment * kSafetensorsDataAlignment;
  const uint64_t other_bytes = 8 + std::string(R"({"__metadata__":{"k":""}})").size();
  std::string value(largest_start - other_bytes, 'v');
  EXPECT_EQ(LayOut({}, {{"k", value}}).data_start, largest_start);
  value.push_back('v');
  ExpectError(LayOutSafetensors({}, {{"k", value}}).status(), absl::StatusCode::kInvalidArgument,
              {"100000000", "header"});
}

TEST(Encode, WritesTheFormatsJson) {
  const SafetensorsLayout layout =
      LayOut({{"w\"\n", DType::kBF16, {2, 3}}, {"s", DType::kF32, {}}}, {{"format", "pt"}});
  const std::string json = R"({"__metadata__":{"format":"pt"},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                           R"("w\"\n":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}})";
  EXPECT_EQ(EncodeSafetensorsHeader(layout), RawSafetensors(json + std::string(4088 - json.size(), ' '), ""));
}

TEST(Encode, NothingAtAllIsAFile) {
  const SafetensorsLayout layout = LayOut({});
  EXPECT_EQ(layout.file_bytes(), 4096u);
  ExpectRoundTrip(layout);
}

TEST(Encode, AParsedLayoutKeepsItsDataStart) {
  const std::string file = RawSafetensors(R"({ "b": {"data_offsets" : [0, 1], "shape":[1], "dtype":"U8"}, )"
                                          R"("a":{"dtype":"F32","shape":[],"data_offsets":[1,5]} })",
                                          "abcde");
  const absl::StatusOr<SafetensorsLayout> layout = ParseSafetensors("f", file, file.size());
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_THAT(NamesOf(*layout), testing::ElementsAre("b", "a"));
  ExpectRoundTrip(*layout);
}

std::string RandomText(std::mt19937& random, size_t most_characters) {
  static const char* const kCharacters[] = {"a",    "B", "0", ".", "_", "/", "\"",     "\\",     "\n",        "\x01",
                                            "\x7f", " ", "{", "}", ",", ":", "\u00e9", "\u5c42", "\U0001f600"};
  std::string text;
  for (size_t i = random() % (most_characters + 1); i > 0; --i) text += kCharacters[random() % std::size(kCharacters)];
  return text;
}

TEST(RoundTrip, RandomManifestsParseToTheSameLayout) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<TensorSpec> tensors;
    const size_t count = random() % 40;
    for (size_t i = 0; i < count; ++i) {
      TensorSpec spec = {absl::StrCat(RandomText(random, 20), i), static_cast<DType>(random() % kDTypeCount), {}};
      for (uint32_t rank = random() % 4; rank > 0; --rank) spec.shape.push_back(random() % 6);
      // Whole bytes for packed elements.
      if (DTypeBits(spec.dtype) < 8) spec.shape.push_back(4 * (random() % 3));
      tensors.push_back(std::move(spec));
    }
    Metadata metadata;
    for (uint32_t i = random() % 4; i > 0; --i) metadata[RandomText(random, 8)] = RandomText(random, 30);
    const SafetensorsLayout layout = LayOut(tensors, metadata);
    EXPECT_EQ(layout.tensors.size(), count);
    EXPECT_EQ(layout.data_bytes, ValidateManifest(tensors).value());
    for (const PlacedTensor& tensor : layout.tensors) {
      EXPECT_EQ(tensor.range.begin % DTypeAlignment(tensor.spec.dtype), 0u);
    }
    ExpectRoundTrip(layout);
    for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(FindInLayout(layout, layout.tensors[i].spec.name).value(), i);
    EXPECT_FALSE(FindInLayout(layout, "not there").has_value());
    std::string header;
    EXPECT_EQ(LayOutSafetensors(tensors, metadata, &header).value(), layout);
    EXPECT_EQ(header, EncodeSafetensorsHeader(layout));
  }
}

TEST(RoundTrip, NumbersAreExactBeyondDoubles) {
  const uint64_t odd = (uint64_t{1} << 53) + 1;
  ExpectRoundTrip(LayOut({{"a", DType::kU8, {odd}}, {"b", DType::kU8, {odd + 2}}}));
}

}  // namespace
}  // namespace weightstream
