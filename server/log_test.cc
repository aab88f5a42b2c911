#include "server/log.h"

#include <grpc/support/log.h>

#include <thread>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

TEST(LogTest, TextLineIsTheEventAndItsPairs) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "update_begun", {{"model", "m"}, {"bytes", "12"}}),
            "update_begun model=m bytes=12");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "stopped", {}), "stopped");
}

TEST(LogTest, TextValuesThatWouldBreakALineAreQuoted) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", "two words"}}), "e k=\"two words\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", ""}}), "e k=\"\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", "a=b"}}), "e k=\"a=b\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", "say \"hi\"\\"}}), R"(e k="say \"hi\"\\")");
  const std::string line = FormatLogLine(LogFormat::kText, "e", {{"k", "first\nsecond fake=1"}});
  EXPECT_EQ(line.find('\n'), std::string::npos) << "a value must not forge a line";
}

TEST(LogTest, JsonLineParsesToWhatWasLogged) {
  const std::string value = "quote \" backslash \\ newline \n umlaut \xc3\xa4";
  const std::string line = FormatLogLine(LogFormat::kJson, "update_begun", {{"model", "m"}, {"error", value}});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  // Time and level come before it, in the same object.
  const nlohmann::json parsed = nlohmann::json::parse("{" + line);
  EXPECT_EQ(parsed.at("event"), "update_begun");
  EXPECT_EQ(parsed.at("model"), "m");
  EXPECT_EQ(parsed.at("error"), value);
}

TEST(LogTest, BrokenUtf8IsReplacedNotThrown) {
  const std::string broken = "a\xff\xfe b";
  EXPECT_TRUE(nlohmann::json::accept("{" + FormatLogLine(LogFormat::kJson, "e", {{"k", broken}})));
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", broken}}).find('\xff'), std::string::npos);
}

TEST(LogTest, TheLinesOfATraceCarryIt) {
  const TraceContext outer{"0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1};
  const TraceContext inner{"11111111111111111111111111111111", "2222222222222222", 0};
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {}), "e");
  {
    const LogTrace trace(outer);
    EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"k", "v"}}),
              "e k=v trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331");
    EXPECT_EQ(nlohmann::json::parse("{" + FormatLogLine(LogFormat::kJson, "e", {{"k", "v"}})).at("span_id"),
              "b7ad6b7169203331");
    EXPECT_EQ(LogTrace::CurrentOr(inner)->span_id, outer.span_id);
    {
      const LogTrace own(inner);
      EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {}),
                "e trace_id=11111111111111111111111111111111 span_id=2222222222222222");
      const LogTrace none(absl::nullopt);
      EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {}), "e");
    }
    EXPECT_EQ(LogTrace::Current()->span_id, outer.span_id);
    std::thread other([] { EXPECT_FALSE(LogTrace::Current().has_value()); });
    other.join();
  }
  EXPECT_FALSE(LogTrace::Current().has_value());
  EXPECT_EQ(LogTrace::CurrentOr(inner)->span_id, inner.span_id);
}

TEST(LogTest, UnknownLevelIsRefusedWithTheKnownOnes) {
  ExpectError(StartLogging("loud", LogFormat::kText), absl::StatusCode::kInvalidArgument,
              {"--log-level=loud", "debug, info, warning, error"});
}

TEST(LogTest, LinesBelowTheLevelAreNotWritten) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging("warning", LogFormat::kText).ok());
  LogDebug("too_fine", {});
  LogInfo("still_too_fine", {});
  LogWarning("seen", {{"model", "m"}});
  LogError("seen_too", {});
  const std::string written = testing::internal::GetCapturedStderr();
  EXPECT_EQ(written.find("too_fine"), std::string::npos) << written;
  EXPECT_NE(written.find("warning seen model=m\n"), std::string::npos) << written;
  EXPECT_NE(written.find("error seen_too\n"), std::string::npos) << written;
}

TEST(LogTest, JsonLinesOnStderrAreWholeObjects) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging("debug", LogFormat::kJson).ok());
  LogDebug("probe", {{"note", "braces {} and {0} are text"}});
  const nlohmann::json parsed = nlohmann::json::parse(testing::internal::GetCapturedStderr());
  EXPECT_EQ(parsed.at("level"), "debug");
  EXPECT_EQ(parsed.at("event"), "probe");
  EXPECT_EQ(parsed.at("note"), "braces {} and {0} are text");
  EXPECT_EQ(std::string(parsed.at("time")).back(), 'Z');
}

TEST(LogTest, JsonTellsNumbersTruthsAndTextApartAndNothingIsLeftOut) {
  const LogFields fields = {{"bytes", uint64_t{18446744073709551615u}},
                            {"seconds", 0.25},
                            {"drained", true},
                            {"model", "7"},
                            {"note", ""},
                            {"update", LogValue::IfAny("")}};
  const nlohmann::json parsed = nlohmann::json::parse("{" + FormatLogLine(LogFormat::kJson, "e", fields));
  EXPECT_EQ(parsed.at("bytes"), 18446744073709551615u);
  EXPECT_EQ(parsed.at("seconds"), 0.25);
  EXPECT_EQ(parsed.at("drained"), true);
  EXPECT_EQ(parsed.at("model"), "7");
  EXPECT_EQ(parsed.at("note"), "");
  EXPECT_FALSE(parsed.contains("update"));
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", fields),
            "e bytes=18446744073709551615 seconds=0.25 drained=true model=7 note=\"\"");
}

TEST(LogTest, WhatGrpcSaysIsALineLikeOthers) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging("warning", LogFormat::kJson).ok());
  // As grpc_init sets it.
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_log("a/folder/some_file.cc", 7, GPR_LOG_SEVERITY_ERROR, "Handshake \"failed\": %d", 42);
  const nlohmann::json parsed = nlohmann::json::parse(testing::internal::GetCapturedStderr());
  EXPECT_EQ(parsed.at("level"), "warning");
  EXPECT_EQ(parsed.at("event"), "grpc");
  EXPECT_EQ(parsed.at("message"), "Handshake \"failed\": 42");
  EXPECT_EQ(parsed.at("at"), "some_file.cc:7");
}

}  // namespace
}  // namespace weightstream
