#include "client/command/progress_bar.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

using Strings = std::vector<std::string>;

const absl::Time kStart = absl::FromUnixSeconds(1000);
constexpr uint64_t kGib = uint64_t{1} << 30;

TransferState Sending(uint64_t done, uint64_t total) {
  return {.phase = "sending", .version = 12, .done_bytes = done, .total_bytes = total};
}

// Half of 8 GiB, 1 GiB of it in the last second.
ProgressBar HalfWay(const Strings& servers) {
  ProgressBar bar(servers);
  for (const std::string& server : servers) {
    bar.Update(server, Sending(3 * kGib, 8 * kGib), kStart);
    bar.Update(server, Sending(4 * kGib, 8 * kGib), kStart + absl::Seconds(1));
  }
  return bar;
}

TEST(ProgressBarTest, ABarShowsPhasePercentBytesRateAndTimeLeft) {
  const ProgressBar bar = HalfWay({"a:1"});
  EXPECT_EQ(
      bar.Bars(100, kStart + absl::Seconds(1)),
      (Strings{"a:1  sending  50.0 %  [===================>                  ]  4.0/8.0 GiB  1.07 GB/s  4.0s left"}));
}

TEST(ProgressBarTest, TheBarsOfSeveralServersAreEquallyLong) {
  ProgressBar bar = HalfWay({"a:1", "b:1"});
  TransferState done = Sending(8 * kGib, 8 * kGib);
  done.end = TransferState::End::kDone;
  bar.Update("b:1", done, kStart + absl::Seconds(1));
  const Strings lines = bar.Bars(100, kStart + absl::Seconds(1));
  EXPECT_TRUE(absl::StrContains(lines[0], "[==================>                  ]")) << lines[0];
  EXPECT_TRUE(absl::StrContains(lines[1], "[=====================================]")) << lines[1];
}

TEST(ProgressBarTest, NoLineIsAsWideAsTheTerminal) {
  const ProgressBar bar = HalfWay({"a:1", "a-host-with-a-rather-long-name.some-cluster.example.com:7070"});
  for (size_t width = 0; width < 200; ++width) {
    for (const std::string& line : bar.Bars(width, kStart + absl::Seconds(1))) {
      EXPECT_LT(line.size(), std::max<size_t>(width, 2)) << line;
    }
  }
}

TEST(ProgressBarTest, AServerOfUnknownSizeShowsItsPhaseOnly) {
  ProgressBar bar({"a:1"});
  bar.Update("a:1", {.phase = "connecting"}, kStart);
  EXPECT_EQ(bar.Bars(80, kStart), (Strings{"a:1  connecting"}));
}

TEST(ProgressBarTest, MoreThanEightServersAreOneLine) {
  Strings servers;
  for (int i = 0; i < 9; ++i) servers.push_back(absl::StrCat("a:", i + 1));
  ProgressBar bar = HalfWay(servers);
  TransferState done = Sending(8 * kGib, 8 * kGib);
  done.phase = "done";
  done.end = TransferState::End::kDone;
  EXPECT_TRUE(bar.Update("a:1", done, kStart + absl::Seconds(1)).phases.empty());
  const Strings bars = bar.Bars(200, kStart + absl::Seconds(1));
  ASSERT_EQ(bars.size(), 1u);
  EXPECT_TRUE(absl::StartsWith(bars[0], "9 servers: 1 done, 8 sending  55.5 %  [")) << bars[0];
  EXPECT_EQ(bar.Bars(72, kStart + absl::Seconds(1)),
            (Strings{"9 servers, 1 done 55.5 % [====>   ] 40.0/72.0 GiB 8.59 GB/s 4.0s left"}));
  EXPECT_EQ(bar.Lines(kStart + absl::Seconds(1)),
            (Strings{"9 servers: 1 done, 8 sending, 55.5 % of 72.0 GiB, 8.59 GB/s, 4.0s left"}));
}

TEST(ProgressBarTest, ALineForALogHoldsTheSameFigures) {
  ProgressBar bar = HalfWay({"a:1", "b:1"});
  TransferState done = Sending(8 * kGib, 8 * kGib);
  done.phase = "done";
  done.end = TransferState::End::kDone;
  bar.Update("b:1", done, kStart + absl::Seconds(1));
  EXPECT_EQ(bar.Lines(kStart + absl::Seconds(1)),
            (Strings{"a:1: sending (version 12), 50.0 % of 8.0 GiB, 1.07 GB/s, 4.0s left"}));
}

TEST(ProgressBarTest, EachChangeOfPhaseIsNewsOnce) {
  ProgressBar bar({"a:1"});
  EXPECT_EQ(bar.Update("a:1", {.phase = "connecting"}, kStart).phases, (Strings{"a:1: connecting"}));
  EXPECT_EQ(bar.Update("a:1", Sending(0, kGib), kStart).phases, (Strings{"a:1: sending (version 12)"}));
  EXPECT_TRUE(bar.Update("a:1", Sending(1, kGib), kStart).phases.empty());
}

TEST(ProgressBarTest, AResumeARetryAndAFailureAreToldOnce) {
  ProgressBar bar({"a:1"});
  TransferState state = Sending(kGib + kGib / 5, 8 * kGib);
  state.resumed_bytes = kGib + kGib / 5;
  EXPECT_EQ(bar.Update("a:1", state, kStart).notices, (Strings{"a:1: resumed: 1.2 GiB were there already"}));
  EXPECT_TRUE(bar.Update("a:1", state, kStart).notices.empty());
  state.retries = 2;
  EXPECT_EQ(bar.Update("a:1", state, kStart).notices, (Strings{"a:1: out of reach, trying again (retry 2)"}));
  EXPECT_TRUE(bar.Update("a:1", state, kStart).notices.empty());
  state.phase = "failed";
  state.end = TransferState::End::kFailed;
  EXPECT_EQ(bar.Update("a:1", state, kStart).notices, (Strings{"a:1: failed"}));
  EXPECT_TRUE(bar.Update("a:1", state, kStart).notices.empty());
}

TEST(ProgressBarTest, MoreDoneThanThereIsIsAll) {
  ProgressBar bar({"a:1"});
  bar.Update("a:1", Sending(9, 8), kStart);
  const Strings bars = bar.Bars(80, kStart);
  EXPECT_TRUE(absl::StrContains(bars[0], "100.0 %")) << bars[0];
  EXPECT_TRUE(absl::StrContains(bars[0], "8/8 B")) << bars[0];
}

TEST(ProgressBarTest, AStrangerIsIgnored) {
  ProgressBar bar({"a:1"});
  EXPECT_TRUE(bar.Update("z:1", Sending(1, 2), kStart).phases.empty());
}

}  // namespace
}  // namespace weightstream::command
