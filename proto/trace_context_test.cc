#include "proto/trace_context.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c";
constexpr char kSpan[] = "b7ad6b7169203331";

std::string Text(absl::string_view version, absl::string_view trace, absl::string_view span, absl::string_view flags,
                 absl::string_view rest = "") {
  return absl::StrCat(version, "-", trace, "-", span, "-", flags, rest);
}

TEST(TraceContextTest, AValidValueComesApartAndIsWrittenAgain) {
  const absl::optional<TraceContext> context = ParseTraceparent(Text("00", kTrace, kSpan, "01"));
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(context->trace_id, kTrace);
  EXPECT_EQ(context->span_id, kSpan);
  EXPECT_EQ(context->flags, 1);
  EXPECT_EQ(FormatTraceparent(*context), Text("00", kTrace, kSpan, "01"));
}

TEST(TraceContextTest, FlagsWithoutAMeaningAreDropped) {
  EXPECT_EQ(ParseTraceparent(Text("00", kTrace, kSpan, "00"))->flags, 0);
  EXPECT_EQ(ParseTraceparent(Text("00", kTrace, kSpan, "03"))->flags, 3);
  EXPECT_EQ(ParseTraceparent(Text("00", kTrace, kSpan, "fe"))->flags, 2);
}

TEST(TraceContextTest, ANewerVersionIsReadAsFarAsItIsKnownAndWrittenAsOurs) {
  for (const absl::string_view rest : {"", "-", "-what-comes-then"}) {
    const absl::optional<TraceContext> context = ParseTraceparent(Text("01", kTrace, kSpan, "01", rest));
    ASSERT_TRUE(context.has_value()) << rest;
    EXPECT_EQ(FormatTraceparent(*context), Text("00", kTrace, kSpan, "01"));
  }
  EXPECT_TRUE(ParseTraceparent(Text("fe", kTrace, kSpan, "01")).has_value());
  EXPECT_FALSE(ParseTraceparent(Text("01", kTrace, kSpan, "01", ".")).has_value());
}

TEST(TraceContextTest, WhatTheSpecificationSaysToIgnoreIsIgnored) {
  const std::string valid = Text("00", kTrace, kSpan, "01");
  for (size_t size = 0; size < valid.size(); ++size) {
    EXPECT_FALSE(ParseTraceparent(valid.substr(0, size)).has_value()) << size;
  }
  for (const std::string& text : {
           Text("ff", kTrace, kSpan, "01"),
           Text("0G", kTrace, kSpan, "01"),
           Text("0A", kTrace, kSpan, "01"),
           Text("00", std::string(32, '0'), kSpan, "01"),
           Text("00", kTrace, std::string(16, '0'), "01"),
           Text("00", "0AF7651916CD43DD8448EB211C80319C", kSpan, "01"),
           Text("00", kTrace, "B7AD6B7169203331", "01"),
           Text("00", kTrace, kSpan, "0A"),
           Text("00", kTrace, kSpan, "0x"),
           Text("00", absl::StrCat(kTrace, "0"), kSpan, "01"),
           Text("00", kTrace, absl::StrCat(kSpan, "0"), "1"),
           Text("00", kTrace, kSpan, "01", "-more"),
           absl::StrCat(valid, " "),
           absl::StrCat(" ", valid),
           absl::StrCat("00_", kTrace, "-", kSpan, "-01"),
       }) {
    EXPECT_FALSE(ParseTraceparent(text).has_value()) << text;
  }
}

TEST(TraceContextTest, AChildIsOfTheSameTraceWithASpanOfItsOwn) {
  const TraceContext parent{kTrace, kSpan, 1};
  const TraceContext one = ChildOf(parent);
  const TraceContext other = ChildOf(parent);
  EXPECT_EQ(one.trace_id, kTrace);
  EXPECT_EQ(one.flags, 1);
  EXPECT_NE(one.span_id, kSpan);
  EXPECT_NE(one.span_id, other.span_id);
  EXPECT_TRUE(ParseTraceparent(FormatTraceparent(one)).has_value());
}

}  // namespace
}  // namespace weightstream
