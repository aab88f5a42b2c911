#include "flags/command_line.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

// What an address is to this test.
absl::Status CheckPort(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() == 2 && parts[1] != "0") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" has no port"));
}

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "send",
      .positional = "PATH",
      .summary = "Sends",
      .description =
          "Sends what is in PATH.\nA second paragraph that is so long that it has to be broken somewhere around here.",
      .examples = {"weightstream send x --to=a:1"},
      .flags = {{.name = "to",
                 .kind = FlagKind::kList,
                 .value = "ADDR[,ADDR...]",
                 .help = "Where to.",
                 .required = true,
                 .check = CheckPort},
                {.name = "from", .kind = FlagKind::kText, .value = "ADDR", .help = "Where from.", .check = CheckPort},
                {.name = "model", .kind = FlagKind::kText, .value = "NAME", .help = "Which."},
                {.name = "count", .kind = FlagKind::kNumber, .value = "N", .help = "How many.", .least = 1, .most = 64},
                {.name = "version", .kind = FlagKind::kNumber, .value = "N", .help = "Which one.", .least = 1},
                {.name = "size", .kind = FlagKind::kDecimal, .value = "N", .help = "How large.", .most = 1024},
                {.name = "out", .kind = FlagKind::kText, .value = "DIR", .help = "Whereto."},
                {.name = "json", .kind = FlagKind::kSwitch, .help = "As JSON."}},
      .exclusive = {{"count", "size"}},
      .needs = {{"version", "model"}},
      .done = "sent",
      .failed = "not sent",
  };
  return spec;
}

absl::StatusOr<CommandLine> Parse(const std::string& words) {
  const std::vector<std::string> arguments = absl::StrSplit(words, ' ', absl::SkipEmpty());
  return ParseCommandLine(Spec(), arguments);
}

TEST(CommandLineTest, FlagsStandBeforeAndAfterThePositionalInBothForms) {
  for (const char* words : {"p --to=a:1,b:2 --count=3 --json", "--to a:1,b:2 --count 3 p --json",
                            "--json --count=3 p --to a:1,b:2", "--json=true --count=3 --to=a:1,b:2 -- p"}) {
    const absl::StatusOr<CommandLine> line = Parse(words);
    ASSERT_TRUE(line.ok()) << words << ": " << line.status();
    EXPECT_EQ(line->positional(), "p") << words;
    EXPECT_EQ(line->List("to"), (std::vector<std::string>{"a:1", "b:2"})) << words;
    EXPECT_EQ(line->Number("count", 9), 3u) << words;
    EXPECT_TRUE(line->Switch("json")) << words;
  }
}

TEST(CommandLineTest, WhatWasNotGivenHasItsDefault) {
  const absl::StatusOr<CommandLine> line = Parse("p --to=a:1");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_FALSE(line->Switch("json"));
  EXPECT_FALSE(line->Has("count"));
  EXPECT_EQ(line->Number("count", 9), 9u);
  EXPECT_EQ(line->Decimal("size", 0.5), 0.5);
  EXPECT_EQ(line->Text("model"), "");
}

TEST(CommandLineTest, AfterTheSeparatorEverythingIsPositional) {
  const absl::StatusOr<CommandLine> line = Parse("--to=a:1 -- --help");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_FALSE(line->help());
  EXPECT_EQ(line->positional(), "--help");
}

TEST(CommandLineTest, HelpWinsOverErrors) {
  for (const char* words : {"--help", "-h", "p --nonsense --help", "--count=x -h"}) {
    const absl::StatusOr<CommandLine> line = Parse(words);
    ASSERT_TRUE(line.ok()) << words;
    EXPECT_TRUE(line->help()) << words;
  }
}

TEST(CommandLineTest, AValueMayHoldEqualsSigns) {
  const absl::StatusOr<CommandLine> line = Parse("p --to=a:1 --out=x=y");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->Text("out"), "x=y");
}

TEST(CommandLineTest, NumbersReachTheirBounds) {
  EXPECT_EQ(Parse("p --to=a:1 --count=64")->Number("count", 0), 64u);
  EXPECT_EQ(Parse("p --to=a:1 --model=m --version=18446744073709551615")->Number("version", 0), UINT64_MAX);
  EXPECT_EQ(Parse("p --to=a:1 --size=0.25")->Decimal("size", 0), 0.25);
  EXPECT_EQ(Parse("p --to=a:1 --size=1024")->Decimal("size", 0), 1024);
}

struct BadLine {
  const char* words;
  // Parts of the message.
  std::vector<std::string> says;
};

class BadLineTest : public testing::TestWithParam<BadLine> {};

TEST_P(BadLineTest, IsRefusedWithTheCauseNamed) {
  const absl::StatusOr<CommandLine> line = Parse(GetParam().words);
  ASSERT_FALSE(line.ok()) << GetParam().words;
  EXPECT_EQ(line.status().code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part : GetParam().says) {
    EXPECT_TRUE(absl::StrContains(line.status().message(), part)) << GetParam().words << ": " << line.status();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BadLineTest,
    testing::Values(
        BadLine{"", {"PATH is missing"}}, BadLine{"p", {"--to=ADDR[,ADDR...] is missing"}},
        BadLine{"p q --to=a:1", {"\"q\"", "\"p\" was given already"}},
        BadLine{"p --to=a:1 --nope=1", {"unknown flag --nope"}}, BadLine{"p --to=a:1 -x", {"unknown flag -x"}},
        BadLine{"p --to=a:1 -to=b:1", {"unknown flag -to"}}, BadLine{"p --to=a:1 --to=b:1", {"--to is given twice"}},
        BadLine{"p --to", {"--to wants a value"}}, BadLine{"p --to --json", {"--to wants a value, but --json follows"}},
        BadLine{"p --to=", {"--to is empty"}}, BadLine{"p --to=a:1 --json=maybe", {"--json is a switch", "\"maybe\""}},
        BadLine{"p --to=a", {"--to", "\"a\""}}, BadLine{"p --to=a:0", {"--to", "a:0"}},
        BadLine{"p --to=a:1,", {"--to has an empty entry"}},
        BadLine{"p --to=a:1,b:2,a:1", {"--to names \"a:1\" twice"}},
        BadLine{"p --to=a:1 --from=nowhere", {"--from", "nowhere"}},
        BadLine{"p --to=a:1 --count=0", {"--count wants a whole number from 1 to 64, not \"0\""}},
        BadLine{"p --to=a:1 --count=65", {"--count", "from 1 to 64"}},
        BadLine{"p --to=a:1 --count=-1", {"--count", "\"-1\""}},
        BadLine{"p --to=a:1 --count -1", {"--count", "\"-1\""}},
        BadLine{"p --to=a:1 --count=+1", {"--count", "\"+1\""}},
        BadLine{"p --to=a:1 --count=3x", {"--count", "\"3x\""}}, BadLine{"p --to=a:1 --count=0x3", {"--count"}},
        BadLine{"p --to=a:1 --count=1.5", {"--count"}},
        BadLine{"p --to=a:1 --model=m --version=18446744073709551616", {"--version", "at least 1"}},
        BadLine{"p --to=a:1 --size=0", {"--size", "above 0"}}, BadLine{"p --to=a:1 --size=-4", {"--size"}},
        BadLine{"p --to=a:1 --size=1e2", {"--size"}}, BadLine{"p --to=a:1 --size=nan", {"--size"}},
        BadLine{"p --to=a:1 --size=inf", {"--size"}}, BadLine{"p --to=a:1 --size=1.2.3", {"--size"}},
        BadLine{"p --to=a:1 --size=.", {"--size"}}, BadLine{"p --to=a:1 --size=1024.1", {"--size", "at most 1024"}},
        BadLine{"p --to=a:1 --count=1 --size=1", {"--count", "--size", "contradict"}},
        BadLine{"p --to=a:1 --version=1", {"--version wants --model"}}));

TEST(CommandLineTest, ACommandWithoutPositionalTakesNone) {
  static const CommandSpec& spec = *new CommandSpec{.program = "weightstream", .name = "look"};
  const std::vector<std::string> arguments = {"x"};
  const absl::StatusOr<CommandLine> line = ParseCommandLine(spec, arguments);
  ASSERT_FALSE(line.ok());
  EXPECT_TRUE(absl::StrContains(line.status().message(), "unexpected argument \"x\"")) << line.status();
}

TEST(CommandLineTest, JsonIsAskedForAlsoWhereTheRestIsWrong) {
  EXPECT_TRUE(AsksForJson(std::vector<std::string>{"--nonsense", "--json"}));
  EXPECT_TRUE(AsksForJson(std::vector<std::string>{"--json=true"}));
  EXPECT_FALSE(AsksForJson(std::vector<std::string>{"--json=false"}));
  EXPECT_FALSE(AsksForJson(std::vector<std::string>{"--", "--json"}));
}

TEST(HelpTextTest, NamesEveryFlagTheExamplesAndTheExitCodesWithin80Columns) {
  const std::string help = HelpText(Spec());
  for (const FlagSpec& flag : Spec().flags) EXPECT_TRUE(absl::StrContains(help, "  --" + flag.name)) << help;
  EXPECT_TRUE(absl::StrContains(help, "Usage: weightstream send PATH --to=ADDR[,ADDR...] [FLAG...]\n")) << help;
  EXPECT_TRUE(absl::StrContains(help, "  weightstream send x --to=a:1\n")) << help;
  EXPECT_TRUE(absl::StrContains(help, "  0 sent\n  1 not sent\n  2 bad usage\n")) << help;
  for (absl::string_view line : absl::StrSplit(help, '\n')) EXPECT_LE(line.size(), 80u) << line;
}

}  // namespace
}  // namespace weightstream
