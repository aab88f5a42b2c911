#include "client/command/watch_view.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::SizeIs;
using Strings = std::vector<std::string>;

const absl::Time kStart = absl::FromUnixSeconds(1'795'503'818);
constexpr uint64_t kGib = uint64_t{1} << 30;

// What one model of one server does, in the order in which it does it.
class Story {
 public:
  Story(WatchView& view, std::string server, std::string model)
      : view_(view), server_(std::move(server)), model_(std::move(model)) {}

  bool Current(uint64_t version) { return Take("current", version, 14 * kGib, 14 * kGib); }
  bool Receives(uint64_t version, uint64_t landed, absl::Duration after) {
    return Take("receiving", version, landed, 14 * kGib, after);
  }
  bool Commits(uint64_t version) { return Take("committing", version, 14 * kGib, 14 * kGib); }
  bool Committed(uint64_t version) { return Take("committed", version, 14 * kGib, 14 * kGib); }
  bool Aborts(uint64_t version) { return Take("aborted", version, 5 * kGib, 14 * kGib); }
  // In flight, at 1 GiB/s.
  void IsAt(uint64_t version, uint64_t gib) {
    for (uint64_t i = 0; i <= 5; ++i) Receives(version, (gib - 5 + i) * kGib, absl::Seconds(i));
  }

 private:
  bool Take(const std::string& state, uint64_t version, uint64_t landed, uint64_t total,
            absl::Duration after = absl::ZeroDuration()) {
    return view_.Take({.time = kStart + after,
                       .server = server_,
                       .model = model_,
                       .state = state,
                       .version = version,
                       .landed_bytes = landed,
                       .total_bytes = total});
  }

  WatchView& view_;
  const std::string server_;
  const std::string model_;
};

bool TakeServer(WatchView& view, const std::string& server, const std::string& state) {
  return view.Take({.time = kStart, .server = server, .model = "", .state = state});
}

Strings Shown(const WatchView& view, size_t columns = 80, size_t rows = 24) {
  return view.Lines(columns, rows, kStart + absl::Seconds(5));
}

TEST(WatchViewTest, OfOneModelOnOneServerShowsALine) {
  WatchView view({"10.0.0.5:7070"}, "");
  EXPECT_THAT(Shown(view), ElementsAre("10.0.0.5:7070  connecting"));
  Story llama(view, "10.0.0.5:7070", "llama");
  llama.Current(12);
  EXPECT_THAT(Shown(view), ElementsAre("llama  current 12"));
  llama.IsAt(13, 7);
  EXPECT_THAT(Shown(view), ElementsAre("llama  receiving 13  50.0 %  [====>    ]  7.0/14.0 GiB  1.07 GB/s  7.0s left"));
  llama.Commits(13);
  EXPECT_THAT(Shown(view), ElementsAre("llama committing 13 100.0 % [=============] 14.0/14.0 GiB"));
  llama.Committed(13);
  llama.Current(13);
  EXPECT_THAT(Shown(view), ElementsAre("llama  current 13"));
}

TEST(WatchViewTest, OfManyServersShowsEachAndCountsThem) {
  Strings servers;
  for (int i = 1; i <= 8; ++i) servers.push_back(absl::StrCat("10.0.0.", i, ":7070"));
  WatchView view(servers, "policy");
  for (int i = 0; i < 5; ++i) Story(view, servers[i], "policy").Current(12);
  Story(view, servers[0], "policy").IsAt(13, 7);
  Story(view, servers[1], "policy").IsAt(13, 14);
  Story(view, servers[1], "policy").Commits(13);
  Story(view, servers[2], "policy").IsAt(13, 6);
  Story(view, servers[2], "policy").Aborts(13);
  Story(view, servers[5], "policy").Current(0);
  TakeServer(view, servers[4], "unreachable");
  TakeServer(view, servers[6], "unreachable");
  EXPECT_THAT(Shown(view),
              ElementsAre("policy on 8 servers: 1 receiving, 1 committing, 1 aborted, 1 current ..",
                          "10.0.0.1:7070 receiving 13   50.0 % [==>  ]  7.0/14.0 GiB 1.07 GB/s 7.0s left",
                          "10.0.0.2:7070 committing 13 100.0 % [=====] 14.0/14.0 GiB", "10.0.0.3:7070 aborted 13",
                          "10.0.0.4:7070 current 12", "10.0.0.5:7070 unreachable", "10.0.0.6:7070 no version",
                          "10.0.0.7:7070 unreachable", "10.0.0.8:7070 connecting"));
}

TEST(WatchViewTest, OfAllModelsOfSeveralServersNamesBoth) {
  WatchView view({"10.0.0.5:7070", "10.0.0.6:7070"}, "");
  Story(view, "10.0.0.5:7070", "llama").Current(3);
  Story(view, "10.0.0.5:7070", "draft").IsAt(1, 7);
  TakeServer(view, "10.0.0.6:7070", "reachable");
  EXPECT_THAT(Shown(view), ElementsAre("2 servers: 1 receiving, 1 current, 1 empty",
                                       "10.0.0.5 draft receiving 1 50.0 % [===>   ] 7.0/14.0 GiB 1.07 GB/s 7.0s left",
                                       "10.0.0.5 llama current 3", "10.0.0.6       no models"));
}

// At every width at which there is room for two ends of a name and for what happens.
TEST(WatchViewTest, RowsOfOneModelOnSeveralServersDiffer) {
  const std::vector<Strings> fleets = {
      {"127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:51001"},
      {"10.0.0.5:7070", "10.0.0.6:7070"},
      {"[2001:db8:85a3::8a2e:370:7334]:7070", "[2001:db8:85a3::8a2e:370:7335]:7070"},
      {"llama-decode-0.serving.svc.cluster.local:7070", "llama-decode-1.serving.svc.cluster.local:7070"}};
  for (const Strings& servers : fleets) {
    WatchView view(servers, "");
    for (const std::string& server : servers) {
      for (const char* model : {"llama-70b-actor", "llama-70b-critic"}) Story(view, server, model).IsAt(42, 7);
    }
    for (size_t columns = 40; columns < 140; ++columns) {
      const Strings shown = Shown(view, columns);
      const std::set<std::string> rows(shown.begin(), shown.end());
      EXPECT_EQ(rows.size(), 2 * servers.size() + 1) << columns << ": " << shown[1] << "\n" << shown[2];
    }
  }
}

TEST(WatchViewTest, FiguresGiveWayToAnAddressBesideItsModel) {
  WatchView view({"127.0.0.1:40001", "127.0.0.1:40002"}, "");
  Story(view, "127.0.0.1:40001", "llama-70b-actor").IsAt(42, 7);
  Story(view, "127.0.0.1:40002", "llama-70b-actor").IsAt(42, 5);
  EXPECT_THAT(Shown(view),
              ElementsAre("2 servers: 2 receiving",
                          "127.0.0.1:40001 llama-70b-actor receiving 42 50.0 % [=> ] 1.07 GB/s 7.0s left",
                          "127.0.0.1:40002 llama-70b-actor receiving 42 35.7 % [=> ] 1.07 GB/s 9.0s left"));
  EXPECT_THAT(Shown(view, 60),
              ElementsAre("2 servers: 2 receiving", "127.0.0.1:40001 llama-70b-actor receiving 42 50.0 %",
                          "127.0.0.1:40002 llama-70b-actor receiving 42 35.7 %"));
  EXPECT_THAT(Shown(view, 40), ElementsAre("2 servers: 2 receiving", "127...:40001 llama-..actor receiving 42",
                                           "127...:40002 llama-..actor receiving 42"));
}

TEST(WatchViewTest, LongNamesDoNotMakeALineWrap) {
  const std::string server = absl::StrCat(std::string(60, 's'), ".weights.svc.cluster.local:7070");
  WatchView view({server, "10.0.0.6:7070"}, "");
  Story(view, server, std::string(128, 'm')).IsAt(4200, 7);
  Story(view, "10.0.0.6:7070", "line\nfeed").IsAt(1, 7);
  for (const size_t columns : {20, 40, 80, 132}) {
    for (const std::string& line : Shown(view, columns)) {
      EXPECT_LT(line.size(), columns) << line;
      EXPECT_FALSE(absl::StrContains(line, "\n"));
    }
  }
  EXPECT_THAT(Shown(view),
              ElementsAre("2 servers: 2 receiving",
                          "ssssssssss..sssssssss mmmmmmmm..mmmmmmm receiving 4200 50.0 % [=> ] 7.0s left",
                          "10.0.0.6              line\\x0afeed      receiving 1    50.0 % [=> ] 7.0s left"));
}

TEST(WatchViewTest, WhatFindsNoRoomIsCountedAndWhatIsUnderWayComesFirst) {
  Strings servers;
  for (int i = 1; i <= 40; ++i) servers.push_back(absl::StrCat("10.0.0.", i, ":7070"));
  WatchView view(servers, "policy");
  for (const std::string& server : servers) Story(view, server, "policy").Current(12);
  Story(view, servers[38], "policy").IsAt(13, 7);
  TakeServer(view, servers[39], "unreachable");
  const Strings shown = Shown(view, 80, 10);
  ASSERT_THAT(shown, SizeIs(9));
  EXPECT_EQ(shown[0], "policy on 40 servers: 38 current, 1 receiving, 1 unreachable");
  EXPECT_TRUE(absl::StartsWith(shown[1], "10.0.0.39:7070 receiving 13")) << shown[1];
  EXPECT_EQ(shown[2], "10.0.0.40:7070 unreachable");
  EXPECT_EQ(shown[8], "and 33 current");
}

TEST(WatchViewTest, WhatHappensIsALineThatStaysAndProgressIsNot) {
  WatchView view({"a:1"}, "");
  Story m(view, "a:1", "m");
  EXPECT_FALSE(m.Current(1)) << "was there already";
  EXPECT_TRUE(m.Receives(2, 0, absl::ZeroDuration())) << "begins";
  EXPECT_FALSE(m.Receives(2, kGib, absl::Seconds(1)));
  EXPECT_FALSE(m.Commits(2));
  EXPECT_FALSE(m.Committed(2));
  EXPECT_TRUE(m.Current(2));
  EXPECT_TRUE(m.Receives(3, 0, absl::Seconds(2)));
  EXPECT_TRUE(m.Aborts(3));
  EXPECT_TRUE(m.Receives(3, 0, absl::Seconds(3))) << "the same version again";
  EXPECT_TRUE(TakeServer(view, "a:1", "unreachable"));
  EXPECT_TRUE(TakeServer(view, "a:1", "reachable"));
  EXPECT_FALSE(TakeServer(view, "a:1", "reachable")) << "no news";
  EXPECT_FALSE(TakeServer(view, "nobody:1", "unreachable"));
  Story other(view, "a:1", "other");
  EXPECT_FALSE(other.Receives(9, kGib, absl::Seconds(4))) << "was under way already";
}

TEST(WatchViewTest, ARateFallsWhenNothingMoves) {
  WatchView view({"a:1"}, "");
  Story(view, "a:1", "m").IsAt(2, 7);
  EXPECT_TRUE(absl::StrContains(view.Lines(80, 24, kStart + absl::Seconds(5))[0], "1.07 GB/s"));
  EXPECT_FALSE(absl::StrContains(view.Lines(80, 24, kStart + absl::Seconds(30))[0], "/s"));
}

}  // namespace
}  // namespace weightstream::command
