#include "client/command/progress_line.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/command/short_labels.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

using Strings = std::vector<std::string>;
using Lines = std::vector<ProgressLine>;

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr uint64_t kTib = uint64_t{1} << 40;
constexpr char kLoopback[] = "127.0.0.1:65535";
// 60 characters.
constexpr char kPod[] = "llama-70b-decode-7f9c4b6d58-x2k9p.serving.svc.cluster.local:7";

ProgressLine Sending(const std::string& name, uint64_t done = 147 * kMib, uint64_t total = 400 * kMib,
                     double rate = 733e6) {
  return {.name = name,
          .short_name = ShortNames({name})[0],
          .phase = "sending",
          .done_bytes = done,
          .total_bytes = total,
          .bytes_per_second = rate};
}

Lines Pods(int count) {
  Strings names;
  for (int i = 0; i < count; ++i) names.push_back(absl::StrCat("llama-decode-", i, ".serving.svc.cluster.local:7070"));
  const Strings brief = ShortNames(names);
  Lines lines;
  for (int i = 0; i < count; ++i) {
    lines.push_back(Sending(names[i], (i + 1) * 10 * kGib, 131 * kGib, 1.1e9));
    lines.back().short_name = brief[i];
  }
  return lines;
}

TEST(ProgressLineTest, AStandardTerminalShowsEverythingOfALoopbackServer) {
  EXPECT_EQ(LayOut({Sending(kLoopback)}, 80),
            (Strings{"127.0.0.1:65535 sending 36.7 % [====>       ] 147/400 MiB 733 MB/s 0.4s left"}));
}

TEST(ProgressLineTest, WideTerminalsSpaceTheColumnsAndDrawALongBar) {
  EXPECT_EQ(LayOut({Sending(kLoopback)}, 120),
            (Strings{"127.0.0.1:65535  sending  36.7 %  [=============>                        ]  147/400 MiB  "
                     "733 MB/s  0.4s left"}));
}

TEST(ProgressLineTest, TheOnlyServersNameGoesBeforeAnyFigure) {
  EXPECT_EQ(LayOut({Sending(kLoopback)}, 60), (Strings{"sending 36.7 % [==>     ] 147/400 MiB 733 MB/s 0.4s left"}));
}

TEST(ProgressLineTest, ANarrowTerminalKeepsBarAndTimeLeft) {
  EXPECT_EQ(LayOut({Sending(kLoopback)}, 40), (Strings{"sending 36.7 % [===>      ] 0.4s left"}));
}

TEST(ProgressLineTest, ALongNameIsShortenedToWhatTellsItApart) {
  EXPECT_EQ(LayOut({Sending(kPod)}, 120),
            (Strings{"llama-70b-decode-7f9c4b6d58-x2k9p  sending  36.7 %  [==========>                 ]  147/400 MiB  "
                     "733 MB/s  0.4s left"}));
  EXPECT_EQ(LayOut({Sending(kPod)}, 80),
            (Strings{"llama-70b-d..b6d58-x2k9p sending 36.7 % [=> ] 147/400 MiB 733 MB/s 0.4s left"}));
  EXPECT_EQ(LayOut({Sending(kPod)}, 60), (Strings{"sending 36.7 % [==>     ] 147/400 MiB 733 MB/s 0.4s left"}));
}

TEST(ProgressLineTest, SeveralServersStandInColumns) {
  Lines lines = Pods(3);
  lines[1].phase = "committing";
  lines[1].done_bytes = lines[1].total_bytes;
  lines[1].bytes_per_second = 0;
  lines[2].total_bytes = 0;
  lines[2].phase = "connecting";
  EXPECT_EQ(LayOut(lines, 120),
            (Strings{"llama-decode-0.serving.svc.cluster.local:7070  sending       7.6 %  [>           ]   10/131 GiB  "
                     "1.10 GB/s  1m58s left",
                     "llama-decode-1.serving.svc.cluster.local:7070  committing  100.0 %  [============]  131/131 GiB",
                     "llama-decode-2.serving.svc.cluster.local:7070  connecting"}));
  EXPECT_EQ(LayOut(lines, 80),
            (Strings{"llama-decode-0 sending      7.6 % [>        ]  10/131 GiB 1.10 GB/s 1m58s left",
                     "llama-decode-1 committing 100.0 % [=========] 131/131 GiB", "llama-decode-2 connecting"}));
  EXPECT_EQ(LayOut(lines, 60), (Strings{"llama..ode-0 sending      7.6 % [>  ] 1.10 GB/s 1m58s left",
                                        "llama..ode-1 committing 100.0 % [===]", "llama..ode-2 connecting"}));
  EXPECT_EQ(LayOut(lines, 40),
            (Strings{"lla..e-0 sending      7.6 % 1m58s left", "lla..e-1 committing 100.0 %", "lla..e-2 connecting"}));
}

TEST(ProgressLineTest, NamesAreCutOnlyAsFarAsTheyDiffer) {
  const Strings names = {"127.0.0.1:41001", "127.0.0.1:42001"};
  for (size_t width = 36; width < 120; ++width) {
    Lines lines = {Sending(names[0]), Sending(names[1])};
    for (ProgressLine& line : lines) line.short_name = line.name;
    const Strings texts = LayOut(lines, width);
    EXPECT_NE(texts[0], texts[1]) << width;
  }
}

TEST(ProgressLineTest, TerabytesFitAStandardTerminal) {
  const ProgressLine line = Sending(kLoopback, 1003 * kGib, 1023 * kGib, 1.23e9);
  EXPECT_EQ(LayOut({line}, 80),
            (Strings{"127.0.0.1:65535 sending 98.0 % [=========>] 1003/1023 GiB 1.23 GB/s 17s left"}));
  const ProgressLine larger = Sending(kLoopback, 3 * kTib / 2, 13 * kTib, 98.7e6);
  EXPECT_EQ(LayOut({larger}, 80),
            (Strings{"127.0.0.1:65535 sending 11.5 % [=>        ] 1.5/13.0 TiB 98.7 MB/s 1d11h left"}));
}

TEST(ProgressLineTest, NoLineIsAsWideAsTheTerminalNorAnyEmpty) {
  ProgressLine unknown = Sending(kLoopback);
  unknown.total_bytes = 0;
  const ProgressLine summary = {.name = "100 servers: 3 connecting, 12 beginning, 60 sending, 25 waiting to start",
                                .short_name = "100 servers, 0 done",
                                .done_bytes = 1,
                                .total_bytes = ~uint64_t{0},
                                .bytes_per_second = 1};
  ProgressLine of_model = Sending(kLoopback);
  of_model.model = std::string(128, 'm');
  const std::vector<Lines> cases = {{Sending(kLoopback)},
                                    {Sending(kPod)},
                                    Pods(2),
                                    Pods(8),
                                    {unknown},
                                    {summary},
                                    {of_model},
                                    {of_model, Sending(kPod)},
                                    {Sending(kPod, kMib, ~uint64_t{0}, 1)}};
  for (const Lines& lines : cases) {
    for (size_t width = 0; width < 260; ++width) {
      const Strings texts = LayOut(lines, width);
      ASSERT_EQ(texts.size(), lines.size());
      for (const std::string& text : texts) {
        EXPECT_LT(text.size(), std::max<size_t>(width, 2)) << text;
        EXPECT_FALSE(text.empty()) << width;
      }
    }
  }
}

// Of one line, by which part of it there is; and none comes back on a narrower terminal.
TEST(ProgressLineTest, ThingsGiveWayInTheirOrder) {
  for (const std::string& name : Strings{kLoopback, kPod}) {
    for (size_t width = 200; width > 10; --width) {
      const std::string text = LayOut({Sending(name)}, width)[0];
      const auto has = [&](absl::string_view part) { return absl::StrContains(text, part); };
      const bool bytes = has("147/400 MiB");
      const bool rate = has("733 MB/s");
      const bool left = has("0.4s left");
      const bool percent = has("36.7 %");
      EXPECT_GE(has("["), rate) << text;
      EXPECT_GE(rate, bytes) << text;
      EXPECT_GE(left, rate) << text;
      EXPECT_GE(left, has("[")) << text;
      EXPECT_GE(percent, left) << text;
      EXPECT_EQ(bytes, width >= 55) << width << ": " << text;
    }
  }
}

TEST(ProgressLineTest, ABarKeepsItsLengthWhenFiguresGetLonger) {
  const auto bar = [](const ProgressLine& line) {
    const std::string text = LayOut({line}, 80)[0];
    return std::make_pair(text.find('['), text.find(']'));
  };
  const auto before = bar(Sending(kLoopback, 4 * kMib, 400 * kMib, 0));
  EXPECT_EQ(bar(Sending(kLoopback, 4 * kMib, 400 * kMib, 99e3)), before);
  EXPECT_EQ(bar(Sending(kLoopback, 40 * kMib, 400 * kMib, 1.23e6)), before);
  EXPECT_EQ(bar(Sending(kLoopback, 399 * kMib, 400 * kMib, 733e6)), before);
}

TEST(ProgressLineTest, TimeLeftIsSaidWhereItCanBeTold) {
  EXPECT_EQ(TimeLeftText(0, 185, 1), "3m05s left");
  EXPECT_EQ(TimeLeftText(185, 185, 1), "");
  EXPECT_EQ(TimeLeftText(0, 185, 0), "");
  EXPECT_EQ(TimeLeftText(0, kTib, 1), "> 99d left");
}

}  // namespace
}  // namespace weightstream::command
