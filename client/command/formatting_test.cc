#include "client/command/formatting.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

TEST(FormattingTest, BytesAreInPowersOf1024AndNeverSay1024) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(uint64_t{15} << 30), "15.0 GiB");
  EXPECT_EQ(FormatBytes(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
}

TEST(FormattingTest, BytesOfATotalShareItsUnitAndSayItOnlyWhenAllIsThere) {
  constexpr uint64_t kMib = 1 << 20;
  EXPECT_EQ(FormatBytesOf(0, 0), "0/0 B");
  EXPECT_EQ(FormatBytesOf(9, 8), "8/8 B");
  EXPECT_EQ(FormatBytesOf(147 * kMib, 400 * kMib), "147/400 MiB");
  EXPECT_EQ(FormatBytesOf(400 * kMib - 1, 400 * kMib), "399/400 MiB");
  EXPECT_EQ(FormatBytesOf(400 * kMib, 400 * kMib), "400/400 MiB");
  EXPECT_EQ(FormatBytesOf(kMib, 8192 * kMib), "0.0/8.0 GiB");
  EXPECT_EQ(FormatBytesOf(4099 * kMib, 8192 * kMib), "4.0/8.0 GiB");
  EXPECT_EQ(FormatBytesOf(uint64_t{700} << 30, uint64_t{1331} << 30), "0.6/1.3 TiB");
  EXPECT_EQ(FormatBytesOf(kMib, (kMib << 10) - 1), "0.0/1.0 GiB");
  EXPECT_EQ(FormatBytesOf(uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()), "8.0/16.0 EiB");
}

TEST(FormattingTest, RatesAreInPowersOf1000WithThreeFigures) {
  EXPECT_EQ(FormatRate(0), "0 B/s");
  EXPECT_EQ(FormatRate(-5), "0 B/s");
  EXPECT_EQ(FormatRate(std::nan("")), "0 B/s");
  EXPECT_EQ(FormatRate(INFINITY), "0 B/s");
  EXPECT_EQ(FormatRate(850e3), "850 kB/s");
  EXPECT_EQ(FormatRate(999.6e3), "1.00 MB/s");
  EXPECT_EQ(FormatRate(1.234e9), "1.23 GB/s");
  EXPECT_EQ(FormatRate(12.34e9), "12.3 GB/s");
  EXPECT_EQ(FormatRate(123.4e9), "123 GB/s");
}

TEST(FormattingTest, DurationsHaveTwoUnits) {
  EXPECT_EQ(DurationText(absl::Seconds(-3)), "0.0s");
  EXPECT_EQ(DurationText(absl::Milliseconds(440)), "0.4s");
  EXPECT_EQ(DurationText(absl::Milliseconds(9960)), "10s");
  EXPECT_EQ(DurationText(absl::Milliseconds(59600)), "1m00s");
  EXPECT_EQ(DurationText(absl::Seconds(185)), "3m05s");
  EXPECT_EQ(DurationText(absl::Minutes(124)), "2h04m");
  EXPECT_EQ(DurationText(absl::Hours(123)), "5d03h");
  EXPECT_EQ(DurationText(absl::InfiniteDuration()), "?");
}

TEST(FormattingTest, APercentageSays100OnlyWhenAllIsThere) {
  EXPECT_EQ(FormatPercent(0, 10), "0.0 %");
  EXPECT_EQ(FormatPercent(421, 1000), "42.1 %");
  EXPECT_EQ(FormatPercent(999'999'999, 1'000'000'000), "99.9 %");
  EXPECT_EQ(FormatPercent((uint64_t{1} << 60) - 1, uint64_t{1} << 60), "99.9 %");
  EXPECT_EQ(FormatPercent(10, 10), "100.0 %");
  EXPECT_EQ(FormatPercent(0, 0), "100.0 %");
}

TEST(FormattingTest, VersionsAreRanges) {
  const auto format = [](std::vector<uint64_t> versions) { return FormatVersions(versions); };
  EXPECT_EQ(format({}), "-");
  EXPECT_EQ(format({7}), "7");
  EXPECT_EQ(format({7, 8}), "7,8");
  EXPECT_EQ(format({3, 4, 5, 9}), "3-5,9");
}

TEST(FormattingTest, TimesAreUtc) {
  const absl::Time time = absl::FromUnixMillis(1'795'503'818'250);
  EXPECT_EQ(TimeText(time), "2026-11-24 07:03:38 UTC");
  EXPECT_EQ(JsonTimeText(time), "2026-11-24T07:03:38.250Z");
  EXPECT_EQ(TimeText(absl::InfinitePast()), "-");
  EXPECT_EQ(JsonTimeText(absl::InfinitePast()), "");
}

TEST(FormattingTest, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(OneLine("a\x1b[2Jb\nc\x7f"), "a\\x1b[2Jb\\x0ac\\x7f");
  EXPECT_EQ(OneLine("caf\xc3\xa9"), "caf\xc3\xa9");
}

TEST(FormattingTest, LongLinesBreakBetweenWords) {
  EXPECT_EQ(WrapLines("short\n\n  as it is\n", 12), "short\n\n  as it is\n");
  EXPECT_EQ(WrapLines("one two three four five", 12), "one two\n  three four\n  five");
  EXPECT_EQ(WrapLines("exactly-12-c and more", 12), "exactly-12-c\n  and more");
  EXPECT_EQ(WrapLines("  indented lines stay so", 12), "  indented\n  lines stay\n  so");
  EXPECT_EQ(WrapLines("a /path/that/is/longer b", 12), "a\n  /path/that/is/longer\n  b");
  EXPECT_EQ(WrapLines("                    ", 12), "                    ");
}

TEST(FormattingTest, ATableAlignsItsColumnsAndGivesLongNamesTheirOwnLine) {
  const std::string titles[] = {"NAME", ">BYTES", "NOTE"};
  const std::vector<std::string> rows[] = {{"a", "1 B", "x"}, {"bbb", "10 B", ""}, {"a-long-name", "2 B", "y"}};
  EXPECT_EQ(FormatTable(titles, rows, 6),
            "NAME  BYTES  NOTE\n"
            "a       1 B  x\n"
            "bbb    10 B\n"
            "a-long-name\n"
            "        2 B  y\n");
}

}  // namespace
}  // namespace weightstream::command
