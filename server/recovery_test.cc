// What a restart makes of every state in which a crash can leave a model's folder. Each is built by hand; the states
// are those between the steps that model_store.h lists.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/model_store.h"
#include "server/test_versions.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

// Steps that build a folder.
using Step = std::function<void(const std::string& folder)>;

Step Version(uint64_t version) {
  return [version](const std::string& folder) { WriteVersion(absl::StrCat(folder, "/", version), version); };
}

Step CutVersion(uint64_t version) {
  return [version](const std::string& folder) {
    WriteVersion(absl::StrCat(folder, "/", version), version);
    WriteTestFile(absl::StrCat(folder, "/", version, "/model.safetensors"), VersionFile(version).substr(0, 4200));
  };
}

Step Link(const std::string& name, const std::string& target) {
  return [=](const std::string& folder) { std::filesystem::create_symlink(target, absl::StrCat(folder, "/", name)); };
}

// With a whole file in it, which is as misleading as it can be.
Step Folder(const std::string& name) {
  return [name](const std::string& folder) { WriteVersion(absl::StrCat(folder, "/", name), 77); };
}

Step HalfWritten(const std::string& name) {
  return [name](const std::string& folder) {
    std::filesystem::create_directories(absl::StrCat(folder, "/", name));
    WriteTestFile(absl::StrCat(folder, "/", name, "/model.safetensors"), "half a hea");
  };
}

struct Crash {
  std::string name;
  std::vector<Step> state;
  // What must be there after recovery; 0 is no current version.
  uint64_t current;
  std::vector<uint64_t> versions;
  std::vector<std::string> names;
  size_t warnings = 0;
};

void PrintTo(const Crash& crash, std::ostream* out) { *out << crash.name; }

class RecoveryTest : public testing::TestWithParam<Crash> {
 protected:
  void ExpectRecovered(const ModelStore& store) const {
    const Crash& crash = GetParam();
    std::vector<uint64_t> versions;
    uint64_t current = 0;
    ASSERT_LE(store.recovered().size(), 1u);
    for (const StoredModel& model : store.recovered()) {
      current = model.current;
      for (const VersionRecord& version : model.versions) versions.push_back(version.version);
    }
    EXPECT_EQ(current, crash.current);
    EXPECT_EQ(versions, crash.versions);
    EXPECT_EQ(NamesIn(folder_), crash.names);
    EXPECT_EQ(store.warnings().size(), crash.warnings);
    if (crash.current != 0) {
      EXPECT_EQ(ReadTestFile(absl::StrCat(folder_, "/current/model.safetensors")), VersionFile(crash.current));
    }
  }

  const std::string data_dir_ = MakeTestFolder();
  const std::string folder_ = absl::StrCat(data_dir_, "/m");
};

TEST_P(RecoveryTest, CurrentIsAWholeVersionAndLeftoversAreGone) {
  std::filesystem::create_directories(folder_);
  for (const Step& step : GetParam().state) step(folder_);
  // Twice: a second crash right after the recovery must change nothing.
  for (int start = 0; start < 2; ++start) {
    absl::StatusOr<std::unique_ptr<ModelStore>> store = ModelStore::Open(data_dir_);
    ASSERT_TRUE(store.ok()) << store.status();
    ExpectRecovered(**store);
  }
  // And the model goes on from there.
  auto store = ModelStore::Open(data_dir_).value();
  ASSERT_TRUE(PublishVersion(*store, "m", 50).ok());
  EXPECT_EQ(ReadTestFile(absl::StrCat(folder_, "/current/model.safetensors")), VersionFile(50));
}

INSTANTIATE_TEST_SUITE_P(
    Crashes, RecoveryTest,
    testing::Values(
        Crash{"InFirstPush", {HalfWritten(".incoming-u")}, 0, {}, {}},
        Crash{"InPush", {Version(1), Link("current", "1"), HalfWritten(".incoming-u")}, 1, {1}, {"1", "current"}},
        Crash{"WithASpare", {Version(1), Link("current", "1"), HalfWritten(".spare-1")}, 1, {1}, {"1", "current"}},
        Crash{"BeforeTheIntent", {Version(1), Link("current", "1"), Folder(".incoming-u")}, 1, {1}, {"1", "current"}},
        Crash{"AfterTheIntent",
              {Version(1), Link("current", "1"), Folder(".incoming-u"), Link(".next", "2")},
              1,
              {1},
              {"1", "current"}},
        Crash{"AfterTheIntentOfTheFirst", {Folder(".incoming-u"), Link(".next", "1")}, 0, {}, {}},
        Crash{"AfterTheVersionsRename",
              {Version(1), Link("current", "1"), Version(2), Link(".next", "2")},
              2,
              {1, 2},
              {"1", "2", "current"}},
        Crash{"AfterTheFirstVersionsRename", {Version(1), Link(".next", "1")}, 1, {1}, {"1", "current"}},
        Crash{"AfterTheCommit", {Version(1), Version(2), Link("current", "2")}, 2, {1, 2}, {"1", "2", "current"}},
        Crash{"InARollback",
              {Version(1), Version(2), Link("current", "2"), Link(".next", "1")},
              1,
              {1, 2},
              {"1", "2", "current"}},
        Crash{"InARemoval", {Version(2), Link("current", "2"), HalfWritten(".removed-1")}, 2, {2}, {"2", "current"}},
        Crash{"InARemovalBeforeAnythingWent",
              {Version(2), Link("current", "2"), Folder(".removed-1")},
              2,
              {2},
              {"2", "current"}},
        Crash{"TwoPushes",
              {Version(1), Link("current", "1"), Folder(".incoming-a"), HalfWritten(".incoming-b")},
              1,
              {1},
              {"1", "current"}},
        // Not of our making, but no reason to serve anything broken.
        Crash{"IntentOfACutVersion",
              {Version(1), Link("current", "1"), CutVersion(2), Link(".next", "2")},
              1,
              {1},
              {"1", "2", "current"},
              1},
        Crash{"IntentOfNonsense",
              {Version(1), Link("current", "1"), Link(".next", "../../elsewhere")},
              1,
              {1},
              {"1", "current"}},
        Crash{"CurrentDangles", {Version(1), Link("current", "9")}, 0, {1}, {"1", "current"}, 1},
        Crash{"NoCurrent", {Version(1)}, 0, {1}, {"1"}, 1}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weightstream
