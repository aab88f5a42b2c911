// Every rule of the format, broken once.
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/safetensors_layout.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

constexpr absl::string_view kPath = "dir/model.safetensors";

absl::StatusOr<SafetensorsLayout> ParseFile(absl::string_view file) {
  return ParseSafetensors(kPath, file, file.size());
}

// Parses a file of `json` and `data_bytes` bytes of data.
absl::StatusOr<SafetensorsLayout> Parse(absl::string_view json, uint64_t data_bytes = 4) {
  const std::string header = RawSafetensors(json, "");
  return ParseSafetensors(kPath, header, header.size() + data_bytes);
}

void ExpectRefused(absl::string_view json, const std::vector<std::string>& parts, uint64_t data_bytes = 4) {
  SCOPED_TRACE(std::string(json.substr(0, 200)));
  std::vector<std::string> all = parts;
  all.emplace_back(kPath);
  ExpectError(Parse(json, data_bytes).status(), absl::StatusCode::kInvalidArgument, all);
}

// A header of one tensor "t" of four bytes, with `from` replaced.
std::string OneTensor(absl::string_view from, absl::string_view to) {
  return absl::StrReplaceAll(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", {{from, to}});
}

TEST(Parse, ReadsWhatTheFormatAllows) {
  const absl::StatusOr<SafetensorsLayout> layout =
      Parse(R"({"__metadata__":{"format":"pt","note":""},"b":{"data_offsets":[2,4],"shape":[1],"dtype":"BF16"},)"
            R"("e":{"dtype":"F32","shape":[0,3],"data_offsets":[2,2]},)"
            R"("a":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2]}}   )");
  ASSERT_TRUE(layout.ok()) << layout.status();
  const std::vector<PlacedTensor> expected = {
      {{"a", DType::kF4, {2, 2}}, {0, 2}}, {{"e", DType::kF32, {0, 3}}, {2, 2}}, {{"b", DType::kBF16, {1}}, {2, 4}}};
  EXPECT_EQ(layout->tensors, expected);
  EXPECT_EQ(layout->metadata, (Metadata{{"format", "pt"}, {"note", ""}}));
  EXPECT_EQ(layout->data_bytes, 4u);
}

TEST(Parse, EscapedNamesAreDecoded) {
  const absl::StatusOr<SafetensorsLayout> layout = Parse(OneTensor("\"t\"", R"("\u5c42\n\ud83d\ude00")"));
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->tensors[0].spec.name, "\u5c42\n\U0001f600");
}

TEST(Parse, AFileTooShortForAHeaderIsRefused) {
  ExpectError(ParseFile("").status(), absl::StatusCode::kInvalidArgument, {std::string(kPath), "0 bytes", "too short"});
  ExpectError(ParseFile("1234567").status(), absl::StatusCode::kInvalidArgument, {"7 bytes", "too short"});
}

TEST(Parse, AHeaderOverTheCapIsRefusedUnread) {
  std::string file(8, '\0');
  for (const uint64_t length : {kMaxSafetensorsHeaderBytes + 1, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
    ExpectError(ParseSafetensors(kPath, file, uint64_t{1} << 62).status(), absl::StatusCode::kInvalidArgument,
                {std::string(kPath), "100000000"});
  }
}

TEST(Parse, AHeaderAtTheCapIsRead) {
  std::string json = OneTensor("", "");
  json.append(kMaxSafetensorsHeaderBytes - json.size(), ' ');
  const absl::StatusOr<SafetensorsLayout> layout = Parse(json);
  EXPECT_TRUE(layout.ok()) << layout.status();
}

TEST(Parse, AHeaderBeyondTheFileOrThePrefixIsRefused) {
  const std::string file = RawSafetensors(OneTensor("", ""), "abcd");
  EXPECT_TRUE(ParseSafetensors(kPath, file.substr(0, file.size() - 4), file.size()).ok());
  ExpectError(ParseSafetensors(kPath, file, file.size() - 5).status(), absl::StatusCode::kInvalidArgument,
              {"does not fit"});
  ExpectError(ParseSafetensors(kPath, file.substr(0, file.size() - 5), file.size()).status(),
              absl::StatusCode::kInvalidArgument, {"does not fit"});
}

TEST(Parse, TheHeaderIsOneObjectAndThenSpaces) {
  const std::string good = OneTensor("", "");
  EXPECT_TRUE(Parse(good).ok());
  EXPECT_TRUE(Parse(good + "  ").ok());
  ExpectRefused("", {"start with '{'"});
  ExpectRefused("    ", {"start with '{'"});
  ExpectRefused(" " + good, {"start with '{'"});
  ExpectRefused("\xef\xbb\xbf" + good, {"start with '{'"});
  ExpectRefused("[" + good + "]", {"start with '{'"});
  ExpectRefused(good + "\n", {"nothing but spaces"});
  ExpectRefused(good + "\t", {"nothing but spaces"});
  ExpectRefused(good + std::string(1, '\0'), {"nothing but spaces"});
  ExpectRefused(good + "x", {"nothing but spaces"});
  ExpectRefused(good + "{}", {"not valid JSON"});
  ExpectRefused(good + std::string("\0{}", 3), {"not valid JSON"});
  ExpectRefused(good.substr(0, good.size() - 1), {"not valid JSON"});
  ExpectRefused(good.substr(0, good.size() - 1) + ",}", {"not valid JSON"});
  ExpectRefused(good.substr(0, good.size() - 1) + "/* */}", {"not valid JSON"});
}

TEST(Parse, BrokenUtf8IsRefused) {
  ExpectRefused(OneTensor("\"t\"", "\"t\xff\""), {"not valid UTF-8"});
  ExpectRefused(OneTensor("\"t\"", "\"\xed\xa0\x80\""), {"not valid UTF-8"});
  ExpectRefused(OneTensor("\"t\"", R"("\ud800")"), {"not valid JSON"});
}

TEST(Parse, NamesOccurOnceAndAreValid) {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  ExpectRefused(absl::StrCat("{\"t\":", entry, ",\"t\":", entry, "}"), {"\"t\"", "twice"}, 0);
  ExpectRefused(absl::StrCat("{\"t\":", entry, ",\"\\u0074\":", entry, "}"), {"\"t\"", "twice"}, 0);
  ExpectRefused(OneTensor("\"t\"", "\"\""), {"name is empty"});
  ExpectRefused(OneTensor("\"t\"", R"("t\u0000")"), {"NUL"});
  ExpectRefused(OneTensor("\"t\"", absl::StrCat("\"", std::string(4097, 'n'), "\"")), {"4096"});
}

TEST(Parse, MetadataAreOneObjectOfStrings) {
  const auto with = [](absl::string_view metadata) {
    return absl::StrCat("{\"__metadata__\":", metadata, ",", OneTensor("", "").substr(1));
  };
  EXPECT_TRUE(Parse(with("{}")).ok());
  EXPECT_TRUE(Parse(with(R"({"a":"\u0000"})")).ok());
  ExpectRefused(with("null"), {"__metadata__", "null"});
  ExpectRefused(with("[]"), {"__metadata__", "an array"});
  ExpectRefused(with("\"x\""), {"__metadata__", "a string"});
  ExpectRefused(with("3"), {"__metadata__", "a number"});
  ExpectRefused(with(R"({"a":1})"), {"__metadata__", "\"a\"", "a number"});
  ExpectRefused(with(R"({"a":null})"), {"__metadata__", "\"a\"", "null"});
  ExpectRefused(with(R"({"a":{}})"), {"__metadata__", "\"a\"", "an object"});
  ExpectRefused(with(R"({"a":["b"]})"), {"__metadata__", "\"a\"", "an array"});
  ExpectRefused(with(R"({"a":"1","a":"1"})"), {"__metadata__", "\"a\"", "twice"});
  ExpectRefused(with(R"({},"__metadata__":{})"), {"__metadata__", "twice"});
}

TEST(Parse, AnEntryIsAnObjectOfExactlyThreeKeys) {
  ExpectRefused(R"({"t":1})", {"\"t\"", "a number"});
  ExpectRefused(R"({"t":null})", {"\"t\"", "null"});
  ExpectRefused(R"({"t":[]})", {"\"t\"", "an array"});
  ExpectRefused(R"({"t":"x"})", {"\"t\"", "a string"});
  ExpectRefused(R"({"t":{}})", {"\"t\"", "dtype is missing"});
  ExpectRefused(OneTensor(R"("dtype":"U8",)", ""), {"\"t\"", "dtype is missing"});
  ExpectRefused(OneTensor(R"("shape":[4],)", ""), {"\"t\"", "shape is missing"});
  ExpectRefused(OneTensor(R"(,"data_offsets":[0,4])", ""), {"\"t\"", "data_offsets is missing"});
  ExpectRefused(OneTensor("\"dtype\"", "\"x\":1,\"dtype\""), {"\"t\"", "unknown key \"x\""});
  ExpectRefused(OneTensor("\"dtype\"", "\"x\":{\"y\":[]},\"dtype\""), {"\"t\"", "unknown key \"x\""});
  for (const char* key : {"\"dtype\":\"U8\"", "\"shape\":[4]", "\"data_offsets\":[0,4]"}) {
    ExpectRefused(OneTensor(key, absl::StrCat(key, ",", key)), {"\"t\"", "twice"});
  }
}

TEST(Parse, ValuesHaveTheirTypes) {
  for (const char* dtype : {"\"U9\"", "\"u8\"", "\"\"", "1", "null", "[]", "{}", "true"}) {
    ExpectRefused(OneTensor("\"U8\"", dtype), {"\"t\"", "dtype"});
  }
  for (const char* shape : {"4", "null", "\"4\"", "{}", "[4.0]", "[-4]", "[-0]", "[4e0]", "[\"4\"]", "[[4]]", "[null]",
                            "[true]", "[18446744073709551616]", "[{}]"}) {
    ExpectRefused(OneTensor("[4]", shape), {"\"t\"", "shape"});
  }
  for (const char* offsets : {"4", "null", "{}", "[]", "[0]", "[0,4,4]", "[0,4.0]", "[-0,4]", "[0,\"4\"]", "[[0],4]",
                              "[0,18446744073709551620]"}) {
    ExpectRefused(OneTensor("[0,4]", offsets), {"\"t\"", "data_offsets"});
  }
}

TEST(Parse, SizesMatchShapeAndDType) {
  ExpectRefused(OneTensor("[4]", "[3]"), {"\"t\"", "span 4 bytes", "U8[3] takes 3"});
  ExpectRefused(OneTensor("\"U8\"", "\"F32\""), {"\"t\"", "F32[4] takes 16"});
  ExpectRefused(OneTensor("[0,4]", "[4,0]"), {"\"t\"", "end before they begin"});
  ExpectRefused(OneTensor("[4]", "[4294967296,4294967296,4294967296]"), {"\"t\"", "64 bits"});
  // 2^62 elements of four bytes: 2^64 bytes, which would wrap to none.
  ExpectRefused(R"({"t":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", {"\"t\"", "64 bits"}, 0);
  std::string ones = "1";
  for (size_t i = 0; i < kMaxTensorRank; ++i) ones += ",1";
  ExpectRefused(OneTensor("[4]", absl::StrCat("[", ones, "]")), {"\"t\"", "64 dimensions"});
}

TEST(Parse, PackedElementsFillWholeBytes) {
  EXPECT_TRUE(Parse(R"({"t":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}})").ok());
  ExpectRefused(R"({"t":{"dtype":"F4","shape":[7],"data_offsets":[0,4]}})", {"\"t\"", "whole bytes"});
  ExpectRefused(R"({"t":{"dtype":"F6_E2M3","shape":[5],"data_offsets":[0,4]}})", {"\"t\"", "whole bytes"});
}

std::string TwoTensors(absl::string_view a_offsets, absl::string_view b_offsets) {
  return absl::StrCat(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)", a_offsets,
                      R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)", b_offsets, "}}");
}

TEST(Parse, TensorsLieWithoutHolesOrOverlaps) {
  EXPECT_TRUE(Parse(TwoTensors("[0,2]", "[2,4]")).ok());
  EXPECT_TRUE(Parse(TwoTensors("[2,4]", "[0,2]")).ok());
  ExpectRefused(TwoTensors("[0,2]", "[1,3]"), {"\"b\"", "inside \"a\""}, 3);
  ExpectRefused(TwoTensors("[0,2]", "[0,2]"), {"\"b\"", "inside \"a\""}, 2);
  ExpectRefused(TwoTensors("[0,2]", "[3,5]"), {"\"b\"", "hole after \"a\""}, 5);
  ExpectRefused(TwoTensors("[1,3]", "[3,5]"), {"\"a\"", "hole"}, 5);
  ExpectRefused(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
      {"\"b\"", "inside \"a\""});
  ExpectRefused(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}})", {"\"a\"", "hole"}, 9);
}

TEST(Parse, TheDataSectionIsExactlyAsLongAsTheTensors) {
  EXPECT_TRUE(Parse("{}", 0).ok());
  ExpectRefused(OneTensor("", ""), {"truncated", "4 bytes", "3 are there"}, 3);
  ExpectRefused(OneTensor("", ""), {"1 bytes after the last tensor"}, 5);
  ExpectRefused("{}", {"1 bytes after the last tensor"}, 1);
  ExpectRefused(R"({"t":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}})",
                {"truncated"});
}

TEST(Parse, DeepNestingIsRefusedAtOnce) {
  ExpectRefused(OneTensor("[4]", std::string(1'000'000, '[')), {"shape"});
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"a\":{";
  ExpectRefused(objects + "}", {"\"a\""});
}

TEST(Parse, MessagesStayShortAndPrintable) {
  const std::string name(4000, 'n');
  const absl::Status status =
      Parse(OneTensor("\"t\":{\"dtype\":\"U8\"", absl::StrCat("\"\\u001b", name, "\":{\"dtype\":\"", name, "\"")))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_LT(status.message().size(), 800u);
  EXPECT_EQ(std::string(status.message()).find('\x1b'), std::string::npos);
}

std::string ValidFile() {
  return RawSafetensors(R"({"__metadata__":{"format":"pt","\u00e9":"x\n"},"a.weight":{"dtype":"BF16","shape":[2,3],)"
                        R"("data_offsets":[0,12]},"b":{"dtype":"F4","shape":[4],"data_offsets":[12,14]},)"
                        R"("e":{"dtype":"F64","shape":[0],"data_offsets":[14,14]}}      )",
                        std::string(14, 'd'));
}

TEST(Parse, AFileCutAnywhereIsRefused) {
  const std::string file = ValidFile();
  ASSERT_TRUE(ParseFile(file).ok());
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    // Copied, so that a read past the end is one past an allocation: AddressSanitizer sees it.
    const std::vector<char> cut(file.begin(), file.begin() + bytes);
    EXPECT_EQ(ParseFile(absl::string_view(cut.data(), cut.size())).status().code(), absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST(Parse, AHeaderCutAnywhereWithItsLengthMadeToFitIsRefused) {
  const std::string file = ValidFile();
  const std::string json = file.substr(8, file.size() - 8 - 14);
  const size_t unpadded = json.find_last_not_of(' ') + 1;
  for (size_t bytes = 0; bytes < unpadded; ++bytes) EXPECT_FALSE(Parse(json.substr(0, bytes), 14).ok()) << bytes;
}

TEST(Parse, AnyOneByteChangedIsAnErrorOrAValidLayout) {
  const std::string file = ValidFile();
  for (size_t at = 0; at < file.size() - 14; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = file;
      changed[at] = static_cast<char>(value);
      const absl::StatusOr<SafetensorsLayout> layout = ParseFile(changed);
      if (!layout.ok()) {
        ASSERT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument) << at << " " << value;
        continue;
      }
      // What is accepted must hold together: its own header parses to it.
      const std::string header = EncodeSafetensorsHeader(*layout);
      const absl::StatusOr<SafetensorsLayout> again = ParseSafetensors(kPath, header, layout->file_bytes());
      ASSERT_TRUE(again.ok()) << again.status() << at << " " << value;
      ASSERT_TRUE(*again == *layout) << at << " " << value;
    }
  }
}

TEST(Parse, RandomDamageNeverCrashes) {
  const std::string file = ValidFile();
  std::mt19937 random(11);
  for (int round = 0; round < 20'000; ++round) {
    std::string changed = file;
    for (uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = 8 + random() % (changed.size() - 8);
      switch (random() % 3) {
        case 0:
          changed[at] = static_cast<char>(random());
          break;
        case 1:
          changed.erase(at, random() % 8);
          break;
        default:
          changed.insert(at, changed.substr(8 + random() % (changed.size() - 8), random() % 12));
          break;
      }
    }
    const absl::StatusOr<SafetensorsLayout> layout = ParseFile(changed);
    EXPECT_TRUE(!layout.ok() || layout->file_bytes() == changed.size());
  }
}

}  // namespace
}  // namespace weightstream
