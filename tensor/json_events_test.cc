#include "tensor/json_events.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

// Writes down what it sees.
class Recorder : public JsonHandler {
 public:
  absl::Status OnStartObject() override { return Note("{"); }
  absl::Status OnKey(std::string key) override { return Note(absl::StrCat(key, ":")); }
  absl::Status OnEndObject() override { return Note("}"); }
  absl::Status OnStartArray() override { return Note("["); }
  absl::Status OnEndArray() override { return Note("]"); }
  absl::Status OnString(std::string value) override { return Note(absl::StrCat("'", value, "'")); }
  absl::Status OnUnsigned(uint64_t value) override { return Note(absl::StrCat(value)); }
  absl::Status OnOther(absl::string_view what) override { return Note(what); }

  std::vector<std::string> events;

 private:
  absl::Status Note(absl::string_view event) {
    events.emplace_back(event);
    return event == "'stop'" ? absl::CancelledError("stopped") : absl::OkStatus();
  }
};

std::vector<std::string> EventsOf(absl::string_view json) {
  Recorder recorder;
  const absl::Status status = ParseJson("test", json, recorder);
  EXPECT_TRUE(status.ok()) << status;
  return recorder.events;
}

TEST(JsonEvents, ComeInOrderWithRepeatedKeys) {
  EXPECT_THAT(EventsOf(R"({"a": ["x", 1], "a": {}})"),
              testing::ElementsAre("{", "a:", "[", "'x'", "1", "]", "a:", "{", "}", "}"));
}

TEST(JsonEvents, NumbersAreExactOrNotNumbers) {
  EXPECT_THAT(EventsOf("[0, 9007199254740993, 18446744073709551615]"),
              testing::ElementsAre("[", "0", "9007199254740993", "18446744073709551615", "]"));
  const std::string not_whole = "a number that is not a whole one of 0 to 2^64 - 1";
  EXPECT_THAT(EventsOf("[18446744073709551616, 1.0, 1e3, -1, null, true]"),
              testing::ElementsAre("[", not_whole, not_whole, not_whole, "a number below 0", "null", "a boolean", "]"));
}

TEST(JsonEvents, ErrorsNameTheSubjectAndThePlace) {
  for (const std::string& json :
       {std::string(""), std::string("{"), std::string("{\"a\":}"), std::string("{}{}"), std::string("[1,]"),
        std::string("[01]"), std::string("[+1]"), std::string("\"\\ud800\""), std::string("// comment\n1"),
        std::string("{}\0{}", 5), std::string("{}\0", 3), std::string("[1e999]"), std::string("'a'")}) {
    Recorder recorder;
    const absl::Status status = ParseJson("PATH", json, recorder);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith("PATH is not valid JSON at byte ")) << json;
  }
}

TEST(JsonEvents, BrokenUtf8IsRefusedInAndOutsideOfStrings) {
  for (const char* json : {"\"\xff\"", "{}\xff", "\"\xed\xa0\x80\""}) {
    Recorder recorder;
    EXPECT_EQ(ParseJson("PATH", json, recorder).message(), "PATH is not valid UTF-8; the file is damaged") << json;
  }
}

TEST(JsonEvents, TheHandlersErrorEndsTheParse) {
  Recorder recorder;
  EXPECT_EQ(ParseJson("PATH", R"(["stop", "more"])", recorder).code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(recorder.events, testing::ElementsAre("[", "'stop'"));
}

TEST(JsonEvents, DeepNestingNeedsNoStack) {
  Recorder recorder;
  EXPECT_FALSE(ParseJson("PATH", std::string(1'000'000, '['), recorder).ok());
  EXPECT_EQ(recorder.events.size(), 1'000'000u);
}

TEST(JsonEvents, AStringSurvivesWritingAndReading) {
  for (const std::string& text : {std::string("a"), std::string("\"\\/\b\f\n\r\t\x01\x1f\x7f"), std::string("\0", 1),
                                  std::string("\u5c42\U0001f600"), std::string("\u2028")}) {
    EXPECT_THAT(EventsOf(JsonString(text)), testing::ElementsAre("'" + text + "'"));
  }
  EXPECT_EQ(JsonString("\u5c42/\x7f"), "\"\u5c42/\x7f\"");
  EXPECT_EQ(JsonString("a\x01\"\n"), R"("a\u0001\"\n")");
}

// The text is looked at eight bytes at a time, and what is left of it one by one: a byte must be seen in each place of
// both, and whatever its neighbours are.
TEST(JsonEvents, ABytesNeedOfAnEscapeIsSeenInEveryPlaceBesideAnyNeighbour) {
  constexpr size_t kLongest = 24;
  const auto needs_escape = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == '"' || c == '\\'; };
  for (const int neighbour : {0x00, 0x1f, 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x61, 0x7f, 0x80, 0xff}) {
    for (size_t length = 1; length <= kLongest; ++length) {
      for (size_t at = 0; at < length; ++at) {
        for (int byte = 0; byte < 256; ++byte) {
          // One that is to be escaped stands beside the byte only, for the others to be looked at.
          std::string text(length, needs_escape(static_cast<char>(neighbour)) ? 'a' : static_cast<char>(neighbour));
          if (at > 0) text[at - 1] = static_cast<char>(neighbour);
          text[at] = static_cast<char>(byte);
          ASSERT_EQ(IsPlainInJson(text), std::none_of(text.begin(), text.end(), needs_escape))
              << "byte " << byte << " at " << at << " of " << length << " behind " << neighbour;
        }
      }
    }
  }
  EXPECT_TRUE(IsPlainInJson(""));
}

TEST(JsonEvents, AByteInEveryPlaceSurvivesWritingAndReading) {
  for (const char neighbour : {'\0', ' ', '\x7f', '"'}) {
    for (size_t length = 1; length <= 24; ++length) {
      for (size_t at = 0; at < length; ++at) {
        for (int byte = 0; byte < 0x80; ++byte) {
          std::string text(length, 'a');
          if (at > 0) text[at - 1] = neighbour;
          text[at] = static_cast<char>(byte);
          Recorder recorder;
          ASSERT_TRUE(ParseJson("test", JsonString(text), recorder).ok());
          ASSERT_EQ(recorder.events, std::vector<std::string>{absl::StrCat("'", text, "'")});
        }
      }
    }
  }
}

}  // namespace
}  // namespace weightstream
