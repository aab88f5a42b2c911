#include "server/model_registry.h"

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/host_device.h"
#include "server/file_versions.h"
#include "server/test_update.h"
#include "server/test_versions.h"
#include "tensor/monotonic_clock.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

class ModelRegistryTest : public testing::Test {
 protected:
  ModelRegistry& registry() {
    if (registry_ == nullptr) {
      medium_ = Files(*store_);
      registry_ = std::make_unique<ModelRegistry>(*medium_, limits_, metrics_, Observers());
    }
    return *registry_;
  }

  std::unique_ptr<FileVersions> Files(ModelStore& store) {
    return std::make_unique<FileVersions>(store, *device_, ArenaSupply::Options{.promised_bytes = [this] {
                                            return registry_ == nullptr ? 0 : registry_->PromisedBytes();
                                          }});
  }

  ModelRegistry::Observers Observers() {
    return {.on_current = [this](const std::string& model, uint64_t version, const std::string&) {
      current_.push_back(absl::StrCat(model, "@", version));
    }};
  }

  // Before the registry goes, which it asks.
  void TearDown() override {
    if (medium_ != nullptr) medium_->Stop();
  }

  static BeginParams Params(uint64_t version, uint64_t bytes = 100) {
    BeginParams params;
    params.version = version;
    params.tensors = {ByteTensor("w", bytes)};
    return params;
  }

  // The id of an update that has begun.
  std::string Begin(const std::string& model, uint64_t version) {
    absl::StatusOr<BegunUpdate> begun = registry().Begin(model, Params(version));
    EXPECT_TRUE(begun.ok()) << begun.status();
    return begun.ok() ? begun->update->identity().id : "";
  }

  absl::Status Commit(const std::string& model, const std::string& id) {
    FillUpdate(**registry().FindUpdate(id), 1);
    return (*registry().Find(model))->Commit(id).status();
  }

  const std::unique_ptr<ModelStore> store_ = ModelStore::Open(MakeTestFolder()).value();
  const std::unique_ptr<Device> device_ = NewHostDevice();
  Limits limits_;
  Metrics metrics_;
  std::vector<std::string> current_;
  std::unique_ptr<FileVersions> medium_;
  std::unique_ptr<ModelRegistry> registry_;
};

TEST_F(ModelRegistryTest, ModelNamesArePathsAndRestricted) {
  for (const std::string& name : {std::string(), std::string("../up"), std::string("a/b"), std::string("a\0b", 3),
                                  std::string(".hidden"), std::string("-x"), std::string(129, 'a')}) {
    ExpectError(registry().Begin(name, Params(1)).status(), StatusCode::kInvalidArgument, {"model"});
  }
  EXPECT_TRUE(registry().Begin("Llama-3.1_8B", Params(1)).ok());
  EXPECT_TRUE(registry().Begin(std::string(128, 'a'), Params(1)).ok());
  EXPECT_EQ(registry().All().size(), 2u) << "what was refused is not known";
}

TEST_F(ModelRegistryTest, UpdatesAreFoundByIdAcrossModels) {
  const std::string a = Begin("a", 1);
  const std::string b = Begin("b", 1);
  EXPECT_NE(a, b);
  EXPECT_EQ((*registry().FindUpdate(a))->identity().model, "a");
  EXPECT_EQ((*registry().FindUpdate(b))->identity().model, "b");
  ExpectError(registry().FindUpdate("x\n").status(), StatusCode::kNotFound, {"no update 'x", "begin it again"});
  ExpectError(registry().FindUpdate("").status(), StatusCode::kNotFound, {"no update ''"});
  ASSERT_TRUE(registry().Find("a").value()->Abort(a, "over").ok());
  ExpectError(registry().FindUpdate(a).status(), StatusCode::kAborted, {"over"});
}

TEST_F(ModelRegistryTest, UnknownModelsAreNotFound) {
  ExpectError(registry().Find("none").status(), StatusCode::kNotFound, {"no model 'none'", "ListModels"});
}

TEST_F(ModelRegistryTest, TheNumberOfModelsIsLimitedAndEmptyOnesMakeRoom) {
  limits_.models = 2;
  const std::string a = Begin("a", 1);
  ASSERT_TRUE(Commit("a", a).ok());
  const std::string b = Begin("b", 1);
  ExpectError(registry().Begin("c", Params(1)).status(), StatusCode::kResourceExhausted, {"2 models", "--max-models"});
  ASSERT_TRUE(registry().Find("b").value()->Abort(b, "over").ok());
  EXPECT_TRUE(registry().Begin("c", Params(1)).ok());
  EXPECT_FALSE(registry().Find("b").ok());
  EXPECT_TRUE(registry().Find("a").ok()) << "what has versions is never forgotten";
}

TEST_F(ModelRegistryTest, TheManifestOfTheLastUpdateIsKeptAsItCameAndGoesWithItsModel) {
  limits_.models = 2;
  const auto begin = [this](const std::string& model, uint64_t version, const char* wire, const char* step) {
    BeginParams params = Params(version);
    params.metadata["step"] = step;
    if (const auto known = registry().FindManifest(model); known != nullptr && *known->wire == wire) {
      params.known = known;
      params.tensors.clear();
    } else {
      params.wire = std::make_shared<const std::string>(wire);
    }
    return registry().Begin(model, std::move(params)).value().update;
  };
  const auto first = begin("a", 1, "wire", "1");
  const auto kept = registry().FindManifest("a");
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(*kept->wire, "wire");
  EXPECT_EQ(kept->layout, first->shared_layout());
  EXPECT_EQ(kept->crc32c, first->manifest_crc32c());
  EXPECT_EQ(begin("a", 2, "wire", "1")->shared_layout(), kept->layout);
  EXPECT_EQ(registry().FindManifest("a"), kept) << "what was used stays as it is";
  const auto other_metadata = begin("a", 3, "wire", "2");
  EXPECT_NE(other_metadata->shared_layout(), kept->layout);
  EXPECT_EQ(registry().FindManifest("a")->layout, other_metadata->shared_layout());
  EXPECT_EQ(*registry().FindManifest("a")->wire, "wire");
  begin("b", 1, "other", "1");
  EXPECT_EQ(*registry().FindManifest("b")->wire, "other");

  ASSERT_TRUE(registry().Find("a").value()->Abort(other_metadata->identity().id, "over").ok());
  begin("c", 1, "", "1");
  EXPECT_FALSE(registry().Find("a").ok());
  EXPECT_EQ(registry().FindManifest("a"), nullptr);
  EXPECT_NE(registry().FindManifest("b"), nullptr);
  EXPECT_EQ(registry().FindManifest("c"), nullptr) << "that cannot come again";
}

TEST_F(ModelRegistryTest, AManifestWithMoreMetadataThanThereIsRoomForIsNotKept) {
  BeginParams params = Params(1);
  params.wire = std::make_shared<const std::string>("wire");
  params.metadata["note"] = std::string(70 << 20, 'n');
  ASSERT_TRUE(registry().Begin("a", std::move(params)).ok());
  EXPECT_EQ(registry().FindManifest("a"), nullptr);
}

TEST_F(ModelRegistryTest, TheNumberOfUpdatesIsLimitedAcrossModels) {
  limits_.updates = 2;
  const std::string a = Begin("a", 1);
  Begin("b", 1);
  ExpectError(registry().Begin("c", Params(1)).status(), StatusCode::kResourceExhausted,
              {"2 updates in flight", "--max-updates"});
  EXPECT_TRUE(registry().Begin("a", Params(1))->resumed) << "resuming takes no place";
  const std::string newer = Begin("b", 2);
  EXPECT_NE(newer, "") << "a newer update takes the place of what it supersedes";
  ASSERT_TRUE(Commit("a", a).ok());
  const std::string c = Begin("c", 1);
  ExpectError(registry().Begin("d", Params(1)).status(), StatusCode::kResourceExhausted, {"--max-updates"});
  ASSERT_TRUE(registry().Find("c").value()->Abort(c, "over").ok());
  Begin("d", 1);
}

TEST_F(ModelRegistryTest, AnUpdateThatCannotBeginTakesNoPlace) {
  limits_.updates = 1;
  limits_.model_bytes = 100;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(registry().Begin("a", Params(1, 101)).ok());
    EXPECT_FALSE(registry().Begin("a", Params(0)).ok());
  }
  Begin("b", 1);
}

TEST_F(ModelRegistryTest, ASilentUpdateGivesWayWhereThereIsNoPlaceLeft) {
  limits_.updates = 2;
  limits_.silent_call = absl::ZeroDuration();
  const std::string oldest = Begin("a", 1);
  const std::string newer = Begin("b", 1);
  (*registry().FindUpdate(newer))->Touch();
  Begin("c", 1);
  ExpectError(registry().FindUpdate(oldest).status(), StatusCode::kAborted, {"no chunk for", "--max-updates"});
  EXPECT_TRUE(registry().FindUpdate(newer).ok());
}

TEST_F(ModelRegistryTest, ASlowUpdateGivesWayWhereThereIsNoPlaceLeft) {
  limits_.updates = 1;
  limits_.silent_call = absl::Milliseconds(200);
  const auto slow = registry().FindUpdate(Begin("a", 1)).value();
  // It has a chunk now and then, and so is never silent.
  const auto drip = [&] {
    slow->Touch();
    registry().Review();
  };
  ExpectError(registry().Begin("b", Params(1)).status(), StatusCode::kResourceExhausted, {"--max-updates"});
  EXPECT_TRUE(WaitFor([&] {
    drip();
    return registry().Begin("b", Params(1)).ok();
  }));
  ExpectError(slow->ReceivingStatus(), StatusCode::kAborted,
              {"0 bytes a second lately", "--least-kib-per-second", "another update needed its place"});
}

TEST_F(ModelRegistryTest, AnUpdateThatIsFastEnoughGivesNoWay) {
  limits_.updates = 1;
  limits_.silent_call = absl::Milliseconds(500);
  limits_.least_bytes_per_second = 1;
  limits_.update_time = absl::InfiniteDuration();
  const auto update = registry().Begin("a", Params(1, 1 << 30)).value().update;
  const absl::Duration until = MonotonicNow() + 4 * limits_.silent_call;
  for (uint64_t landed = 0; MonotonicNow() < until; ++landed) {
    update->Touch();
    update->ranges().Land(update->ranges().Claim({{0, {landed * 1000, (landed + 1) * 1000}}}));
    registry().Review();
    EXPECT_FALSE(registry().Begin("b", Params(1)).ok());
  }
  EXPECT_TRUE(update->ReceivingStatus().ok());
}

TEST_F(ModelRegistryTest, BytesPromisedToOneModelAreNotGivenToAnother) {
  const uint64_t most = store_->FreeBytes().value() / 5 * 3;
  ASSERT_TRUE(registry().Begin("a", Params(1, most)).ok());
  ExpectError(registry().Begin("b", Params(1, most)).status(), StatusCode::kResourceExhausted,
              {"'b'", "promised to updates in flight"});
  // A newer version of the same model takes the place of what it supersedes.
  EXPECT_TRUE(registry().Begin("a", Params(2, most)).ok());
}

TEST_F(ModelRegistryTest, ASilentUpdateGivesWayWhereThereIsNoRoomLeft) {
  limits_.silent_call = absl::ZeroDuration();
  const std::string small = Begin("small", 1);
  const uint64_t most = store_->FreeBytes().value() / 5 * 3;
  const std::string first = registry().Begin("a", Params(1, most)).value().update->identity().id;
  const auto second = registry().Begin("b", Params(1, most));
  ASSERT_TRUE(second.ok()) << second.status();
  ExpectError(registry().FindUpdate(first).status(), StatusCode::kAborted,
              {"no chunk for", "another update needed its room"});
  // The one silent for longest goes first, though it has little.
  ExpectError(registry().FindUpdate(small).status(), StatusCode::kAborted, {"needed its room"});
}

TEST_F(ModelRegistryTest, AnUpdateThatIsUnderWayForTooLongGivesWayWhereThereIsNoRoomLeft) {
  limits_.update_time = absl::Milliseconds(100);
  const uint64_t most = store_->FreeBytes().value() / 5 * 3;
  const auto slow = registry().Begin("a", Params(1, most)).value().update;
  EXPECT_TRUE(WaitFor([&] {
    slow->Touch();
    registry().Review();
    return registry().Begin("b", Params(1, most)).ok();
  }));
  ExpectError(slow->ReceivingStatus(), StatusCode::kAborted,
              {"longer than 100ms (--update-seconds)", "another update needed its room"});
}

TEST_F(ModelRegistryTest, OneThatIsRefusedAnywayEndsNone) {
  limits_.updates = 1;
  limits_.silent_call = absl::ZeroDuration();
  const std::string committed = Begin("b", 1);
  ASSERT_TRUE(Commit("b", committed).ok());
  const std::string silent = Begin("a", 1);
  ExpectError(registry().Begin("b", Params(1)).status(), StatusCode::kAlreadyExists, {"committed already"});
  EXPECT_TRUE(registry().FindUpdate(silent).ok());
}

TEST_F(ModelRegistryTest, NoSilentUpdateIsEndedForOneThatFindsNoRoomAllTheSame) {
  limits_.silent_call = absl::ZeroDuration();
  const std::string silent = Begin("a", 1);
  ExpectError(registry().Begin("b", Params(1, uint64_t{1} << 60)).status(), StatusCode::kResourceExhausted,
              {"'b'", "promised to updates in flight"});
  EXPECT_TRUE(registry().FindUpdate(silent).ok());
}

TEST_F(ModelRegistryTest, RetentionHoldsFromTheStart) {
  limits_.keep_versions = 2;
  const std::string folder = MakeTestFolder();
  for (const uint64_t version : {1, 2, 3, 4}) WriteVersion(absl::StrCat(folder, "/m/", version), version);
  ASSERT_EQ(symlink("1", absl::StrCat(folder, "/m/current").c_str()), 0);
  const auto store = ModelStore::Open(folder).value();
  {
    const std::unique_ptr<FileVersions> medium = Files(*store);
    const ModelRegistry registry(*medium, limits_, metrics_, {});
    const ModelSnapshot snapshot = (*registry.Find("m"))->Snapshot();
    ASSERT_EQ(snapshot.versions.size(), 2u);
    EXPECT_EQ(snapshot.versions[0].version, 1u) << "the current one stays";
    EXPECT_EQ(snapshot.versions[1].version, 4u);
  }
  EXPECT_THAT(NamesIn(absl::StrCat(folder, "/m")), ElementsAre("1", "4", "current"));
}

TEST_F(ModelRegistryTest, RecoveredModelsAreKnownAndAnnounced) {
  ASSERT_TRUE(PublishVersion(*store_, "m", 4).ok());
  const auto data_dir = store_->data_dir();
  const std::string copy = MakeTestFolder();
  WriteVersion(absl::StrCat(copy, "/m/4"), 4);
  WriteVersion(absl::StrCat(copy, "/m/6"), 6);
  WriteVersion(absl::StrCat(copy, "/n/1"), 1);
  ASSERT_EQ(symlink("4", absl::StrCat(copy, "/m/current").c_str()), 0);
  const auto store = ModelStore::Open(copy).value();
  const std::unique_ptr<FileVersions> medium = Files(*store);
  ModelRegistry registry(*medium, limits_, metrics_, Observers());
  EXPECT_THAT(current_, ElementsAre("m@4"));
  EXPECT_EQ(registry.Find("m").value()->Snapshot().highest, 6u);
  ExpectError(registry.Begin("m", Params(5)).status(), StatusCode::kFailedPrecondition, {"not newer than 6"});
  EXPECT_EQ(registry.Find("n").value()->Snapshot().current, 0u);
}

TEST_F(ModelRegistryTest, IdleUpdatesAreAbortedAndBusyOnesAreNot) {
  limits_.idle_update = absl::Milliseconds(20);
  const std::string id = Begin("m", 1);
  const auto update = registry().FindUpdate(id).value();
  EXPECT_TRUE(WaitFor([&] {
    registry().Review();
    return update->state() == UpdateState::kAborted;
  }));
  EXPECT_GE(absl::Now() - update->Record().begin_time, limits_.idle_update);
  ExpectError(update->ReceivingStatus(), StatusCode::kAborted, {"no chunk for 20ms", "--idle-update-seconds"});
  limits_.idle_update = absl::Hours(1);
  Begin("m", 1);
  registry().Review();
  EXPECT_NE(registry().Find("m").value()->update_in_flight(), nullptr);
}

TEST_F(ModelRegistryTest, AnIdleUpdatesStreamsAreCut) {
  limits_.idle_update = absl::Nanoseconds(1);
  const auto update = registry().FindUpdate(Begin("m", 1)).value();
  std::atomic<bool> cut{false};
  update->AddStream([&](const absl::Status&) { cut = true; });
  EXPECT_TRUE(WaitFor([&] {
    registry().Review();
    return cut.load();
  }));
}

TEST_F(ModelRegistryTest, DrainBeginsNothingAndWaitsForWhatIsInFlight) {
  const std::string id = Begin("m", 1);
  EXPECT_FALSE(registry().draining());
  std::thread committer([&] {
    EXPECT_TRUE(WaitFor([&] { return registry().draining(); }));
    ExpectError(registry().Begin("n", Params(1)).status(), StatusCode::kUnavailable, {"shutting down"});
    ExpectError(registry().Begin("m", Params(2)).status(), StatusCode::kUnavailable, {"shutting down"});
    EXPECT_TRUE(Commit("m", id).ok());
  });
  EXPECT_TRUE(registry().Drain(absl::Seconds(30)));
  committer.join();
  EXPECT_THAT(current_, ElementsAre("m@1"));
}

TEST_F(ModelRegistryTest, DrainEndsAtItsDeadlineAndAbortAllEndsTheRest) {
  const std::string a = Begin("a", 1);
  const std::string b = Begin("b", 1);
  EXPECT_FALSE(registry().Drain(absl::Milliseconds(10)));
  registry().AbortAll("the server is shutting down");
  ExpectError(registry().FindUpdate(a).status(), StatusCode::kAborted, {"shutting down"});
  ExpectError(registry().FindUpdate(b).status(), StatusCode::kAborted, {"shutting down"});
  EXPECT_TRUE(registry().Drain(absl::ZeroDuration()));
}

TEST_F(ModelRegistryTest, AwaitNewModelWakesWhenItComes) {
  registry();
  std::thread waiter([&] {
    registry().AwaitNewModel("m", absl::Seconds(30));
    EXPECT_TRUE(registry().Find("m").ok());
  });
  Begin("other", 1);
  Begin("m", 1);
  waiter.join();
  registry().AwaitNewModel("never", absl::Milliseconds(1));
}

TEST_F(ModelRegistryTest, OfSendersThatRaceTheHighestVersionWins) {
  constexpr uint64_t kSenders = 6;
  registry();
  std::vector<std::thread> senders;
  std::atomic<int> surprises{0};
  for (uint64_t version = 1; version <= kSenders; ++version) {
    senders.emplace_back([&, version] {
      const auto begun = registry().Begin("m", Params(version));
      if (!begun.ok() && !absl::IsAborted(begun.status())) ++surprises;
    });
  }
  for (std::thread& sender : senders) sender.join();
  EXPECT_EQ(surprises, 0);
  const auto update = registry().Find("m").value()->update_in_flight();
  ASSERT_NE(update, nullptr);
  EXPECT_EQ(update->identity().version, kSenders);
  EXPECT_TRUE(update->ReceivingStatus().ok());
  EXPECT_EQ(NamesIn(absl::StrCat(store_->data_dir(), "/m")).size(), 1u) << "of the others nothing is left";
}

}  // namespace
}  // namespace weightstream
