#include "client/command/status_text.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/command/model_json.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

constexpr int64_t kNowSeconds = 1'795'503'818;
const absl::Time kNow = absl::FromUnixSeconds(kNowSeconds);
constexpr uint64_t kGib = uint64_t{1} << 30;

void AddVersion(v1::Model& model, uint64_t version, uint64_t bytes, int64_t age_seconds) {
  v1::VersionInfo& info = *model.add_versions();
  info.set_version(version);
  info.set_total_bytes(bytes);
  info.set_tensors(291);
  info.mutable_commit_time()->set_seconds(kNowSeconds - age_seconds);
  info.set_path("/dev/shm/weightstream/llama/12/model.safetensors");
}

v1::Model Llama() {
  v1::Model model;
  model.set_name("llama");
  model.set_current_version(12);
  model.set_highest_version(12);
  AddVersion(model, 11, 14 * kGib, 3600);
  AddVersion(model, 12, 14 * kGib, 185);
  v1::UpdateInfo& flying = *model.add_updates();
  flying.set_update_id("u13");
  flying.set_version(13);
  flying.set_state(v1::UPDATE_STATE_RECEIVING);
  flying.set_total_bytes(1000);
  flying.set_landed_bytes(421);
  flying.set_open_streams(4);
  flying.mutable_begin_time()->set_seconds(kNowSeconds - 12);
  v1::UpdateInfo& ended = *model.add_updates();
  ended.set_update_id("u12");
  ended.set_version(12);
  ended.set_state(v1::UPDATE_STATE_ABORTED);
  ended.set_total_bytes(1000);
  ended.set_landed_bytes(10);
  ended.mutable_end_time()->set_seconds(kNowSeconds - 200);
  ended.set_reason("no chunk for 60 s\x1b[2J");
  return model;
}

v1::ListModelsResponse Answer(const std::vector<v1::Model>& models, const std::string& device = "") {
  v1::ListModelsResponse answer;
  for (const v1::Model& model : models) *answer.add_models() = model;
  answer.set_device(device);
  return answer;
}

size_t Widest(const std::vector<std::string>& lines) {
  size_t widest = 0;
  for (const std::string& line : lines) widest = std::max(widest, line.size());
  return widest;
}

TEST(StatusTextTest, ATableReadsWellAt80Columns) {
  v1::Model empty;
  empty.set_name("draft");
  const std::string table = ModelsTable(Answer({Llama(), empty}), kNow);
  EXPECT_EQ(table,
            "MODEL  CURRENT  HELD      BYTES    AGE\n"
            "llama       12  11,12  14.0 GiB  3m05s\n"
            "  13: receiving 42.1 %, 421/1000 B, 35 B/s, 17s left\n"
            "draft        -  -             -      -\n");
}

TEST(StatusTextTest, ALongNameAndManyVersionsDoNotWidenTheTable) {
  v1::Model model = Llama();
  model.set_name(std::string(128, 'm'));
  for (uint64_t version = 14; version < 80; version += 2) AddVersion(model, version, kGib, 1);
  const std::vector<std::string> lines = absl::StrSplit(ModelsTable(Answer({model}), kNow), '\n');
  ASSERT_GE(lines.size(), 3u);
  EXPECT_EQ(lines[1], std::string(79, 'm'));
  EXPECT_EQ(lines[2], absl::StrCat("  ", std::string(128 - 79, 'm')));
  EXPECT_LT(Widest(lines), 80u);
  EXPECT_TRUE(absl::StrContains(lines[3], "35 held")) << lines[3];
}

TEST(StatusTextTest, LongNamesAreWholeInAFleetsTableAndDoNotWidenIt) {
  for (const size_t length : {30, 57, 58, 61, 77, 78, 128}) {
    v1::Model model = Llama();
    model.set_name(std::string(length, 'm'));
    const std::string table = FleetTable({{"192.168.100.100:65535", Answer({model})}}, kNow);
    const std::vector<std::string> lines = absl::StrSplit(table, '\n');
    EXPECT_LT(Widest(lines), 80u) << table;
    EXPECT_EQ(std::count(table.begin(), table.end(), 'm'), static_cast<ptrdiff_t>(length) + 1) << "3m05s\n" << table;
    EXPECT_TRUE(absl::StartsWith(lines[1], "192.168.100.100:65535")) << table;
  }
}

TEST(StatusTextTest, AFleetIsOneTableThatReadsWellAt80Columns) {
  v1::Model longest = Llama();
  longest.set_name("reward-model-of-the-second-stage");
  longest.set_current_version(18446744073709551615u);
  v1::Model empty;
  empty.set_name("draft");
  const absl::Status dead = absl::UnavailableError(
      "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:7070: Failed to connect to remote host: "
      "Connection refused\x1b[2J");
  const std::vector<ServerModels> servers = {{"10.0.0.5:7070", Answer({Llama(), empty})},
                                             {"10.0.0.6:7070", Answer({longest})},
                                             {"10.0.0.7:7070", dead},
                                             {"10.0.0.10:7070", Answer({}, "cuda:0")}};
  EXPECT_EQ(FleetTable(servers, kNow),
            "SERVER          MODEL               CURRENT  HELD      BYTES    AGE\n"
            "10.0.0.5:7070   llama                    12  11,12  14.0 GiB  3m05s\n"
            "  13: receiving 42.1 %, 421/1000 B, 35 B/s, 17s left\n"
            "10.0.0.5:7070   draft                     -  -             -      -\n"
            "10.0.0.6:7070   reward-model-of-the-second-stage\n"
            "                       18446744073709551615  11,12         -      -\n"
            "  13: receiving 42.1 %, 421/1000 B, 35 B/s, 17s left\n"
            "10.0.0.7:7070   UNAVAILABLE\n"
            "  failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:7070:\n"
            "  Failed to connect to remote host: Connection refused\\x1b[2J\n"
            "10.0.0.10:7070  no models, device cuda:0\n");
}

TEST(StatusTextTest, AServerClockAheadOfOursIsNoNegativeAge) {
  v1::Model model;
  model.set_name("m");
  model.set_current_version(1);
  AddVersion(model, 1, 5, -100);
  EXPECT_TRUE(absl::StrContains(ModelsTable(Answer({model}), kNow), "  0.0s\n")) << ModelsTable(Answer({model}), kNow);
}

TEST(StatusTextTest, NoModelsIsSaidAndWhereTheyWouldBe) {
  EXPECT_EQ(ModelsTable(Answer({}), kNow), "no models\n");
  v1::ListModelsResponse empty = Answer({}, "cuda:0");
  EXPECT_EQ(ModelsTable(empty, kNow), "no models, device cuda:0\n");
  empty.set_device_error("cuda:0: an illegal address");
  EXPECT_EQ(ModelsTable(empty, kNow),
            "no models, device cuda:0\nthe device cuda:0 has failed:\n  cuda:0: an illegal address\n");
}

TEST(StatusTextTest, TheDetailNamesFilesTheUpdateInFlightAndWhyOthersEnded) {
  const std::string detail = ModelDetail(Llama(), kNow);
  for (const char* part :
       {"model llama\ncurrent version 12, 14.0 GiB, committed 3m05s ago\n", "12 *", "2026-11-24 07:00:33 UTC",
        "/dev/shm/weightstream/llama/12/model.safetensors\n",
        "update in flight to version 13:\n  receiving 42.1 %, 421/1000 B, 35 B/s, 17s left\n  4 streams, begun "
        "12s ago, update u13\n",
        "aborted", "3m20s", "no chunk for 60 s\\x1b[2J\n"}) {
    EXPECT_TRUE(absl::StrContains(detail, part)) << part << "\nin\n" << detail;
  }
}

// Everything that there is to say, with the longest numbers.
v1::Model Worst() {
  constexpr uint64_t kMost = ~uint64_t{0};
  v1::Model model = Llama();
  model.set_name(std::string(128, 'm'));
  model.set_current_version(kMost);
  model.set_highest_version(kMost - 1);
  model.set_device("cuda:0");
  model.set_device_error(
      "cuda:0: an illegal memory access was encountered in the kernel that casts; restart the server");
  model.set_weights_state(v1::WEIGHTS_STATE_UNTRUSTED);
  model.set_overwritten_version(kMost);
  model.set_unfinished_version(kMost);
  model.set_prepared_bytes(kMost);
  AddVersion(model, kMost, 1023 * kGib, 10'000'000);
  v1::RegisteredTargets& targets = *model.mutable_targets();
  targets.set_owner("sglang-7f9c4b6d58-x2k9p.serving.svc.cluster.local");
  targets.set_tensors(1'000'000);
  targets.set_bytes(1023 * kGib);
  targets.mutable_state()->set_state(v1::WEIGHTS_STATE_UNTRUSTED);
  targets.mutable_state()->set_overwritten_version(kMost);
  targets.mutable_state()->set_unfinished_version(kMost);
  v1::CommitHook& hook = *model.mutable_commit_hook();
  hook.set_version(kMost);
  hook.set_state(v1::COMMIT_HOOK_STATE_PENDING);
  hook.set_attempts(4'000'000'000);
  hook.set_message(
      "POST http://127.0.0.1:30000/update_weights_from_disk: answered 500 Internal Server Error, try again");
  hook.mutable_time()->set_seconds(kNowSeconds - 10'000'000);
  model.mutable_updates(0)->set_mode(v1::UPDATE_MODE_REGISTERED);
  model.mutable_updates(0)->set_update_id(std::string(32, 'f'));
  model.mutable_updates(1)->set_version(kMost);
  model.mutable_updates(1)->set_reason(
      "no chunk came for 60 seconds and the sender's connection was closed; begin the update again to resume it");
  return model;
}

TEST(StatusTextTest, TheDetailFits80Columns) {
  for (const v1::Model& model : {Llama(), Worst()}) {
    const std::string detail = ModelDetail(model, kNow);
    const std::vector<std::string> lines = absl::StrSplit(detail, '\n');
    EXPECT_LT(Widest(lines), 80u) << detail;
  }
  v1::Model on_disk = Llama();
  const std::string path = absl::StrCat("/mnt/models of every team/", std::string(60, 'p'), "/model.safetensors");
  on_disk.mutable_versions(0)->set_path(path);
  const std::string detail = ModelDetail(on_disk, kNow);
  EXPECT_TRUE(absl::StrContains(detail, absl::StrCat("\n  ", path, "\n"))) << "a path stands whole\n" << detail;
}

TEST(StatusTextTest, TheDetailSaysHowTheCommitHookWent) {
  v1::Model model;
  model.set_name("draft");
  v1::CommitHook& hook = *model.mutable_commit_hook();
  hook.set_version(7);
  hook.set_state(v1::COMMIT_HOOK_STATE_FAILED);
  hook.set_attempts(8);
  hook.set_message("POST http://127.0.0.1:1/x: answered 400 {}\x1b[2J");
  hook.mutable_time()->set_seconds(kNowSeconds - 5);
  const std::string detail = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(detail,
                                "commit hook for version 7: failed, 8 attempts, the last 5.0s ago:\n"
                                "  POST http://127.0.0.1:1/x: answered 400 {}\\x1b[2J\n"))
      << detail;
  const Json json = ModelJson(model);
  EXPECT_EQ(json["commit_hook"]["state"], "failed");
  EXPECT_EQ(json["commit_hook"]["attempts"], 8);
  EXPECT_EQ(json["commit_hook"]["message"], hook.message());
  EXPECT_TRUE(ModelJson(Llama())["commit_hook"].is_null());
}

TEST(StatusTextTest, AModelWithoutAVersionIsSaidToHaveNone) {
  v1::Model model;
  model.set_name("draft");
  EXPECT_EQ(ModelDetail(model, kNow), "model draft\nno version is current\nno version held\nno update in flight\n");
}

TEST(ModelJsonTest, HoldsVersionsAndUpdatesWithNamesForStates) {
  const Json json = ModelJson(Llama());
  EXPECT_EQ(json["name"], "llama");
  EXPECT_EQ(json["current_version"], 12);
  ASSERT_EQ(json["versions"].size(), 2u);
  EXPECT_EQ(json["versions"][1]["commit_time"], "2026-11-24T07:00:33.000Z");
  ASSERT_EQ(json["updates"].size(), 2u);
  EXPECT_EQ(json["updates"][0]["state"], "receiving");
  EXPECT_EQ(json["updates"][0]["percent"], 42.1);
  EXPECT_TRUE(json["updates"][0]["end_time"].is_null());
  EXPECT_EQ(json["updates"][1]["reason"], "no chunk for 60 s\x1b[2J");
}

TEST(JsonOutputTest, IsOneLineAlsoWithBrokenUtf8) {
  const std::string line = JsonLine(OutcomeJson(absl::UnavailableError("bad \xff\n byte")));
  EXPECT_EQ(line, "{\"ok\":false,\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"bad \xef\xbf\xbd\\n byte\"}}\n");
  EXPECT_EQ(JsonLine(OutcomeJson(absl::OkStatus())), "{\"ok\":true}\n");
}

TEST(StatusTextTest, AnUpdateInPlaceIsSaidToBeOne) {
  v1::Model model = Llama();
  model.set_device("cuda:0");
  model.set_current_version(0);
  model.mutable_versions()->Clear();
  model.mutable_updates(0)->set_mode(v1::UPDATE_MODE_IN_PLACE);
  model.set_weights_state(v1::WEIGHTS_STATE_UPDATING);
  model.set_overwritten_version(12);
  const std::string text = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(text, "updating in place over version 12: no version is whole until the commit\n"))
      << text;
  EXPECT_TRUE(absl::StrContains(text, "ago, update u13,\n  in place, over the current version\n")) << text;
  model.set_weights_state(v1::WEIGHTS_STATE_UNTRUSTED);
  const std::string untrusted = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(untrusted, "version 12 cannot be trusted")) << untrusted;
  EXPECT_TRUE(absl::StrContains(untrusted, "push a version higher than 12\n")) << untrusted;
  model.set_unfinished_version(13);
  const std::string both = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(both, "version 12 cannot be trusted: an update in place to 13 did not come")) << both;
  model.set_overwritten_version(0);
  const std::string first = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(first, "version 13 cannot be trusted: the update to it did not come")) << first;
}

TEST(StatusTextTest, VersionsInMemoryAndWhoHasThemOpenAreShown) {
  v1::Model model = Llama();
  model.set_device("cuda:0");
  model.set_device_error("cuda:0: an illegal address\nstart the server again");
  for (v1::VersionInfo& version : *model.mutable_versions()) version.clear_path();
  model.mutable_versions(0)->set_exports(2);
  const std::string text = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(text, "in memory, cuda:0, open in 2 processes\n")) << text;
  EXPECT_TRUE(absl::StrContains(text, "in memory, cuda:0\n")) << text;
  EXPECT_TRUE(absl::StrContains(text, "the device cuda:0 has failed:\n")) << text;
  EXPECT_FALSE(absl::StrContains(text, "address\nstart")) << text;
}

TEST(StatusTextTest, RegisteredTargetsAreShownWithWhatTheyHold) {
  v1::Model model = Llama();
  EXPECT_FALSE(absl::StrContains(ModelDetail(model, kNow), "targets"));
  v1::RegisteredTargets& targets = *model.mutable_targets();
  targets.set_owner("unix:");
  targets.set_tensors(291);
  targets.set_bytes(7 * kGib);
  targets.mutable_state()->set_state(v1::WEIGHTS_STATE_UPDATING);
  targets.mutable_state()->set_next_version(13);
  model.mutable_updates(0)->set_mode(v1::UPDATE_MODE_REGISTERED);
  const std::string text = ModelDetail(model, kNow);
  EXPECT_TRUE(absl::StrContains(text, "targets registered by unix:: 291 tensors, 7.0 GiB,\n  updating to version 13"))
      << text;
  EXPECT_TRUE(absl::StrContains(text, "into the targets that the inference server registered\n")) << text;
  targets.mutable_state()->set_state(v1::WEIGHTS_STATE_WHOLE);
  targets.mutable_state()->set_version(12);
  EXPECT_TRUE(absl::StrContains(ModelDetail(model, kNow), "7.0 GiB,\n  version 12\n"));
}

}  // namespace
}  // namespace weightstream::command
