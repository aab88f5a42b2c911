#include "client/command/watch_events.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

using Strings = std::vector<std::string>;

const absl::Time kStart = absl::FromUnixSeconds(1'795'503'818);

v1::Model Held(uint64_t current) {
  v1::Model model;
  model.set_name("m");
  model.set_current_version(current);
  if (current != 0) {
    v1::VersionInfo& version = *model.add_versions();
    version.set_version(current);
    version.set_total_bytes(2048);
  }
  return model;
}

// The service lists the newest first.
void AddUpdate(v1::Model& model, uint64_t version, v1::UpdateState state, uint64_t landed,
               const std::string& reason = "") {
  v1::UpdateInfo& update = *model.add_updates();
  update.set_update_id(absl::StrCat("u", version));
  update.set_version(version);
  update.set_state(state);
  update.set_landed_bytes(landed);
  update.set_total_bytes(2048);
  update.set_reason(reason);
}

v1::Model With(v1::Model model, uint64_t version, v1::UpdateState state, uint64_t landed,
               const std::string& reason = "") {
  AddUpdate(model, version, state, landed, reason);
  return model;
}

Strings Brief(const std::vector<WatchEvent>& events) {
  Strings brief;
  for (const WatchEvent& event : events)
    brief.push_back(absl::StrCat(event.state, " ", event.version, " ", event.landed_bytes));
  return brief;
}

TEST(WatchedServerTest, AtFirstSightTellsWhatIsCurrentAndInFlightButNotWhatEnded) {
  WatchedServer server("a:1");
  v1::Model model = With(Held(2), 3, v1::UPDATE_STATE_RECEIVING, 100);
  AddUpdate(model, 2, v1::UPDATE_STATE_COMMITTED, 2048);
  EXPECT_EQ(Brief(server.Take("m", model, kStart)), (Strings{"receiving 3 100", "current 2 2048"}));
}

TEST(WatchedServerTest, TellsEachChangeOnce) {
  WatchedServer server("a:1");
  EXPECT_EQ(Brief(server.Take("m", Held(0), kStart)), (Strings{"current 0 0"}));
  const v1::Model begun = With(Held(0), 1, v1::UPDATE_STATE_RECEIVING, 0);
  EXPECT_EQ(Brief(server.Take("m", begun, kStart)), (Strings{"receiving 1 0"}));
  EXPECT_TRUE(server.Take("m", begun, kStart).empty());
  EXPECT_EQ(Brief(server.Take("m", With(Held(0), 1, v1::UPDATE_STATE_RECEIVING, 1024), kStart)),
            (Strings{"receiving 1 1024"}));
  EXPECT_EQ(Brief(server.Take("m", With(Held(0), 1, v1::UPDATE_STATE_COMMITTING, 2048), kStart)),
            (Strings{"committing 1 2048"}));
  EXPECT_EQ(Brief(server.Take("m", With(Held(1), 1, v1::UPDATE_STATE_COMMITTED, 2048), kStart)),
            (Strings{"committed 1 2048", "current 1 2048"}));
}

TEST(WatchedServerTest, AnUpdateThatBeganAndEndedBetweenTwoLooksIsTold) {
  WatchedServer server("a:1");
  server.Take("m", Held(1), kStart);
  v1::Model model = With(Held(3), 3, v1::UPDATE_STATE_COMMITTED, 2048);
  AddUpdate(model, 2, v1::UPDATE_STATE_ABORTED, 7, "superseded");
  const std::vector<WatchEvent> events = server.Take("m", model, kStart);
  EXPECT_EQ(Brief(events), (Strings{"aborted 2 7", "committed 3 2048", "current 3 2048"}));
  EXPECT_EQ(events[0].reason, "superseded");
}

TEST(WatchedServerTest, ARollbackIsAChangeOfTheCurrentVersion) {
  WatchedServer server("a:1");
  server.Take("m", Held(2), kStart);
  EXPECT_EQ(Brief(server.Take("m", Held(1), kStart)), (Strings{"current 1 2048"}));
}

TEST(WatchedServerTest, AnUpdateThatARestartForgotIsAborted) {
  WatchedServer server("a:1");
  server.Take("m", With(Held(1), 2, v1::UPDATE_STATE_RECEIVING, 100), kStart);
  const std::vector<WatchEvent> events = server.Take("m", Held(1), kStart);
  ASSERT_EQ(Brief(events), (Strings{"aborted 2 100"}));
  EXPECT_TRUE(absl::StrContains(events[0].reason, "restarted"));
  EXPECT_TRUE(server.Take("m", Held(1), kStart).empty());
}

TEST(WatchedServerTest, AnEndedUpdateThatFallsOffTheListIsNoNews) {
  WatchedServer server("a:1");
  server.Take("m", With(Held(1), 1, v1::UPDATE_STATE_COMMITTED, 2048), kStart);
  EXPECT_TRUE(server.Take("m", Held(1), kStart).empty());
}

TEST(WatchedServerTest, ModelsAreApart) {
  WatchedServer server("a:1");
  server.Take("m", Held(1), kStart);
  EXPECT_EQ(Brief(server.Take("n", Held(5), kStart)), (Strings{"current 5 2048"}));
  EXPECT_TRUE(server.Take("m", Held(1), kStart).empty());
}

TEST(WatchedServerTest, ProgressHasARate) {
  WatchedServer server("a:1");
  server.Take("m", With(Held(0), 1, v1::UPDATE_STATE_RECEIVING, 0), kStart);
  const auto events =
      server.Take("m", With(Held(0), 1, v1::UPDATE_STATE_RECEIVING, 1024), kStart + absl::Milliseconds(500));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_NEAR(events[0].bytes_per_second, 2048, 1);
}

TEST(WatchEventTest, AsTextIsALine) {
  WatchEvent event = {.time = kStart,
                      .server = "a:1",
                      .model = "m",
                      .state = "receiving",
                      .version = 3,
                      .landed_bytes = 1024,
                      .total_bytes = 2048,
                      .bytes_per_second = 2.5e9};
  EXPECT_EQ(WatchEventText(event, false),
            "2026-11-24 07:03:38 UTC  m  receiving  version 3  50.0 % of 2.0 KiB  2.50 GB/s  0.0s left\n");
  event.state = "aborted";
  event.reason = "why\nnot";
  EXPECT_EQ(WatchEventText(event, true), "2026-11-24 07:03:38 UTC  a:1  m  aborted  version 3  2.0 KiB  why\\x0anot\n");
  EXPECT_EQ(WatchEventText({.time = kStart, .server = "a:1", .model = "m", .state = "current"}, false),
            "2026-11-24 07:03:38 UTC  m  current  no version\n");
  EXPECT_EQ(
      WatchEventText({.time = kStart, .server = "a:1", .model = "", .state = "unreachable", .reason = "gone"}, false),
      "2026-11-24 07:03:38 UTC  a:1  unreachable  gone\n");
}

TEST(WatchEventTest, BriefIsWithoutTheDate) {
  const WatchEvent event = {.time = kStart, .server = "a:1", .model = "m", .state = "current", .version = 4};
  const std::string text = WatchEventBrief(event, false);
  // Of whichever zone this machine is in.
  EXPECT_THAT(text, testing::MatchesRegex("[0-9][0-9]:[0-9][0-9]:38  m  current  version 4\n"));
}

TEST(WatchEventTest, AsJsonHasEveryMember) {
  const Json json = WatchEventJson({.time = kStart, .server = "a:1", .model = "m", .state = "current", .version = 4});
  for (const char* name : {"time", "server", "model", "state", "version", "landed_bytes", "total_bytes", "percent",
                           "bytes_per_second", "seconds_left", "reason"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_EQ(json["time"], "2026-11-24T07:03:38.000Z");
}

}  // namespace
}  // namespace weightstream::command
