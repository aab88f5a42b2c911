#include "server/model.h"

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/faulty_device.h"
#include "kernels/host_device.h"
#include "server/file_versions.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class ModelTest : public testing::Test {
 protected:
  ModelTest() {
    context_.medium = &medium_;
    context_.limits = &limits_;
    context_.metrics = &metrics_;
    context_.slots = &slots_;
    context_.on_current = [this](const std::string& model, uint64_t version, const std::string&) {
      made_current_.emplace_back(model, version);
    };
  }

  Model& model() {
    if (model_ == nullptr) model_ = std::make_unique<Model>(StoredModel{"m", 0, {}}, context_);
    return *model_;
  }

  static BeginParams Params(uint64_t version, const std::string& source = "s") {
    BeginParams params;
    params.version = version;
    params.tensors = {ByteTensor("a", 100), ByteTensor("b", 50)};
    params.source_id = source;
    return params;
  }

  absl::StatusOr<BegunUpdate> Begin(BeginParams params) {
    return model().Begin(absl::StrCat("u", next_id_++), std::move(params));
  }

  // Begins update "u1", fills it and commits it on a thread, which the caller joins: under way on return, and until
  // `go_on`.
  std::thread CommitUntil(absl::Notification& go_on) {
    const auto begun = Begin(Params(1));
    EXPECT_TRUE(begun.ok());
    if (begun.ok()) FillUpdate(*begun->update, 1);
    device_.SetRule([&go_on](const DeviceCall& call) {
      if (call.kind == DeviceCall::Kind::kSync) go_on.WaitForNotificationWithTimeout(absl::Seconds(30));
      return absl::OkStatus();
    });
    std::thread committer([this] { EXPECT_TRUE(model().Commit("u1").ok()); });
    EXPECT_TRUE(WaitFor([this] { return model().Snapshot().updates[0].state == UpdateState::kCommitting; }));
    return committer;
  }

  // Begins, fills and commits.
  absl::StatusOr<VersionRecord> Push(uint64_t version) {
    absl::StatusOr<BegunUpdate> begun = Begin(Params(version));
    if (!begun.ok()) return begun.status();
    FillUpdate(*begun->update, version);
    return model().Commit(begun->update->identity().id);
  }

  std::vector<uint64_t> Versions() {
    std::vector<uint64_t> versions;
    for (const VersionRecord& record : model().Snapshot().versions) versions.push_back(record.version);
    return versions;
  }

  std::vector<std::string> Names() const { return NamesIn(absl::StrCat(store_->data_dir(), "/m")); }

  // The bytes of removed versions are freed in the background.
  void ExpectNamesInTheEnd(const std::vector<std::string>& names) const {
    EXPECT_TRUE(WaitFor([&] { return Names() == names; })) << testing::PrintToString(Names());
  }

  const std::unique_ptr<ModelStore> store_ = ModelStore::Open(MakeTestFolder()).value();
  FaultyDevice device_{NewHostDevice()};
  Limits limits_;
  Metrics metrics_;
  uint64_t promised_bytes_ = 0;
  FileVersions medium_{*store_, device_, {.promised_bytes = [this] { return promised_bytes_; }}};
  UpdateSlots slots_{1};
  ModelContext context_;
  std::vector<std::pair<std::string, uint64_t>> made_current_;
  std::unique_ptr<Model> model_;
  int next_id_ = 1;
};

// ---- Begin: resume and supersede ----

TEST_F(ModelTest, TheSameBeginResumesWhatIsInFlight) {
  const auto first = Begin(Params(1));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->resumed);
  first->update->ranges().Land(first->update->ranges().Claim({{0, {0, 10}}}));
  // Another order of the same tensors is the same manifest.
  BeginParams again = Params(1);
  std::swap(again.tensors[0], again.tensors[1]);
  const auto second = Begin(again);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->resumed);
  EXPECT_EQ(second->update, first->update);
  EXPECT_EQ(second->update->ranges().landed_bytes(), 10u);
}

TEST_F(ModelTest, AHigherVersionSupersedesAndTheOlderIsAborted) {
  const auto older = Begin(Params(1));
  ASSERT_TRUE(older.ok());
  const auto newer = Begin(Params(2));
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_FALSE(newer->resumed);
  ExpectError(older->update->ReceivingStatus(), StatusCode::kAborted, {"u1", "superseded by an update to version 2"});
  ExpectError(model().Commit("u1").status(), StatusCode::kAborted, {"superseded by an update to version 2"});
  EXPECT_THAT(Names(), ElementsAre(".incoming-u2")) << "what the older held is freed";
}

TEST_F(ModelTest, AnOlderVersionIsRefusedWhileANewerIsInFlight) {
  const auto newer = Begin(Params(5));
  ASSERT_TRUE(newer.ok());
  ExpectError(Begin(Params(4)).status(), StatusCode::kAborted, {"version 4", "'m'", "version 5", "in flight"});
  EXPECT_TRUE(newer->update->ReceivingStatus().ok());
}

TEST_F(ModelTest, TheSameVersionOfAnotherSourceSupersedes) {
  const auto first = Begin(Params(1, "trainer-a"));
  ASSERT_TRUE(first.ok());
  FillUpdate(*first->update, 1);
  const auto second = Begin(Params(1, "trainer-b"));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(second->resumed);
  EXPECT_EQ(second->update->ranges().landed_bytes(), 0u) << "never finished with the bytes of another";
  ExpectError(first->update->ReceivingStatus(), StatusCode::kAborted, {"another sender of version 1"});
}

TEST_F(ModelTest, TheSameVersionWithAnotherManifestSupersedes) {
  const auto base = Begin(Params(1));
  ASSERT_TRUE(base.ok());
  BeginParams other_shape = Params(1);
  other_shape.tensors[0].shape = {10, 10};
  BeginParams other_metadata = Params(1);
  other_metadata.metadata["format"] = "np";
  for (const BeginParams& params : {other_shape, other_metadata}) {
    const auto before = model().update_in_flight();
    const auto begun = Begin(params);
    ASSERT_TRUE(begun.ok()) << begun.status();
    EXPECT_FALSE(begun->resumed);
    ExpectError(before->ReceivingStatus(), StatusCode::kAborted, {"with another manifest"});
  }
}

TEST_F(ModelTest, TheBucketLimitIsTheSmallerOne) {
  limits_.bucket_bytes = 1000;
  BeginParams params = Params(1);
  const auto limit = [&](uint64_t version, uint64_t asked) {
    BeginParams params = Params(version);
    params.bucket_limit_bytes = asked;
    return Begin(params)->update->bucket_limit_bytes();
  };
  EXPECT_EQ(limit(1, 0), 1000u);
  EXPECT_EQ(limit(2, 10), 10u);
  EXPECT_EQ(limit(3, 5000), 1000u);
}

// ---- Begin: what is refused ----

TEST_F(ModelTest, VersionsOnlyGoUp) {
  ExpectError(Begin(Params(0)).status(), StatusCode::kInvalidArgument, {"'m' is 0", "start at 1"});
  limits_.keep_versions = 1;
  ASSERT_TRUE(Push(3).ok());
  ASSERT_TRUE(Push(5).ok());
  ExpectError(Begin(Params(5)).status(), StatusCode::kAlreadyExists,
              {"version 5", "committed already", "higher than 5"});
  ExpectError(Begin(Params(4)).status(), StatusCode::kFailedPrecondition, {"version 4", "not newer than 5"});
  ExpectError(Begin(Params(3)).status(), StatusCode::kFailedPrecondition, {"version 3", "not newer than 5"});
  EXPECT_TRUE(Begin(Params(UINT64_MAX)).ok());
}

TEST_F(ModelTest, VersionsGoUpAlsoAfterARollback) {
  ASSERT_TRUE(Push(1).ok());
  ASSERT_TRUE(Push(2).ok());
  ASSERT_TRUE(model().Rollback(1).ok());
  ExpectError(Begin(Params(2)).status(), StatusCode::kAlreadyExists, {"version 2"});
  EXPECT_TRUE(Push(3).ok());
}

TEST_F(ModelTest, AFolderInTheVersionsPlaceIsToldAtBegin) {
  std::filesystem::create_directories(absl::StrCat(store_->data_dir(), "/m/2/obstacle"));
  ExpectError(Begin(Params(2)).status(), StatusCode::kFailedPrecondition,
              {"version 2 of model 'm'", "/m/2 is in its place", "remove it"});
  EXPECT_TRUE(Push(3).ok());
}

TEST_F(ModelTest, BadManifestsAreRefusedAndLeaveNothing) {
  BeginParams twice = Params(1);
  twice.tensors[1].name = "a";
  ExpectError(Begin(twice).status(), StatusCode::kInvalidArgument, {"tensor \"a\""});
  BeginParams huge = Params(1);
  huge.tensors[0].shape = {UINT64_MAX, 2};
  ExpectError(Begin(huge).status(), StatusCode::kInvalidArgument, {"tensor \"a\""});
  ExpectError(Begin(Params(1, std::string(257, 's'))).status(), StatusCode::kInvalidArgument, {"source_id", "256"});
  EXPECT_TRUE(Begin(Params(1, std::string(256, 's'))).ok());
}

TEST_F(ModelTest, LimitsAreResourceExhaustedWithTheirFlag) {
  limits_.manifest_tensors = 1;
  ExpectError(Begin(Params(1)).status(), StatusCode::kResourceExhausted, {"2 tensors", "--max-manifest-tensors"});
  limits_.manifest_tensors = 2;
  limits_.model_bytes = 149;
  ExpectError(Begin(Params(1)).status(), StatusCode::kResourceExhausted, {"150 bytes", "149", "--max-model-gib"});
  limits_.model_bytes = 150;
  EXPECT_TRUE(Begin(Params(1)).ok());
}

TEST_F(ModelTest, MoreThanTheDiskHoldsIsRefusedAtBegin) {
  BeginParams params = Params(1);
  params.tensors[0].shape = {uint64_t{1} << 60};
  ExpectError(Begin(params).status(), StatusCode::kResourceExhausted,
              {"version 1 of model 'm' needs", store_->data_dir(), "free", "--data-dir"});
  EXPECT_FALSE(std::filesystem::is_directory(absl::StrCat(store_->data_dir(), "/m/.incoming-u1")));
}

TEST_F(ModelTest, WhatIsPromisedToOthersIsNotFree) {
  promised_bytes_ = uint64_t{1} << 60;
  ExpectError(Begin(Params(1)).status(), StatusCode::kResourceExhausted, {"promised to updates in flight"});
}

TEST_F(ModelTest, ADeviceThatHasNoTargetLeavesNothingBehind) {
  device_.SetRule(FailCalls(DeviceCall::Kind::kCreateTarget, 0, 1, absl::ResourceExhaustedError("no memory")));
  ExpectError(Begin(Params(1)).status(), StatusCode::kResourceExhausted, {"no memory"});
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(model().update_in_flight(), nullptr);
  EXPECT_TRUE(Begin(Params(1)).ok());
}

// ---- Commit and abort ----

TEST_F(ModelTest, CommitMakesCurrentAndRepeatsItsAnswer) {
  const auto record = Push(7);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->version, 7u);
  EXPECT_EQ(record->total_bytes, 150u);
  EXPECT_THAT(made_current_, ElementsAre(Pair("m", 7u)));
  const auto again = model().Commit("u1");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->path, record->path);
  EXPECT_EQ(again->version, 7u);
  EXPECT_THAT(made_current_, testing::SizeIs(1)) << "nothing happened the second time";
  const ModelSnapshot snapshot = model().Snapshot();
  EXPECT_EQ(snapshot.current, 7u);
  ASSERT_EQ(snapshot.updates.size(), 1u);
  EXPECT_EQ(snapshot.updates[0].state, UpdateState::kCommitted);
  EXPECT_EQ(snapshot.updates[0].landed_bytes, 150u);
  EXPECT_THAT(Names(), ElementsAre("7", "current"));
}

TEST_F(ModelTest, ACommitThatMeansAnotherVersionOrManifestChangesNothing) {
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  FillUpdate(*begun->update, 1);
  const uint32_t crc = begun->update->manifest_crc32c();
  ExpectError(model().Commit("u1", {2, crc}).status(), StatusCode::kDataLoss, {"'u1'", "version 1", "means version 2"});
  ExpectError(model().Commit("u1", {1, crc ^ 1}).status(), StatusCode::kDataLoss,
              {"damaged on the way", "begin again"});
  EXPECT_NE(model().update_in_flight(), nullptr) << "the commit may have been what was damaged";
  EXPECT_THAT(made_current_, IsEmpty());
  ASSERT_TRUE(model().Commit("u1", {1, crc}).ok());
  // Repeated after a lost reply, it is asked the same.
  ExpectError(model().Commit("u1", {2, crc}).status(), StatusCode::kDataLoss, {"means version 2"});
  EXPECT_TRUE(model().Commit("u1", {1, crc}).ok());
}

TEST_F(ModelTest, ACommitIsRememberedUntilItsVersionIsRemoved) {
  limits_.keep_versions = 1;
  ASSERT_TRUE(Push(1).ok());
  ASSERT_TRUE(Push(2).ok());
  ExpectError(model().Commit("u1").status(), StatusCode::kNotFound, {"version 1", "removed since"});
}

TEST_F(ModelTest, CommitBeforeCompleteNamesWhatIsMissingAndMayBeRepeated) {
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  ExpectError(model().Commit("u1").status(), StatusCode::kFailedPrecondition, {"150 of 150 bytes", "'a' [0, 100)"});
  FillUpdate(*begun->update, 1);
  EXPECT_TRUE(model().Commit("u1").ok());
}

TEST_F(ModelTest, UnknownUpdatesAreNotFound) {
  ExpectError(model().Commit("never").status(), StatusCode::kNotFound, {"'m' has no update 'never'", "begin it again"});
  ExpectError(model().Abort("never", "r"), StatusCode::kNotFound, {"'never'"});
  ASSERT_TRUE(Begin(Params(1)).ok());
  ExpectError(model().Commit("").status(), StatusCode::kNotFound, {"no update"});
}

TEST_F(ModelTest, AbortIsIdempotentAndFreesTheFiles) {
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  EXPECT_TRUE(model().Abort("u1", "changed my mind").ok());
  EXPECT_TRUE(model().Abort("u1", "again").ok());
  EXPECT_EQ(model().Snapshot().updates[0].reason, "changed my mind");
  EXPECT_THAT(Names(), IsEmpty());
  ExpectError(begun->update->ReceivingStatus(), StatusCode::kAborted, {"changed my mind"});
  EXPECT_TRUE(Begin(Params(1)).ok()) << "an aborted version may be pushed again";
}

TEST_F(ModelTest, ACommittedUpdateCannotBeAborted) {
  ASSERT_TRUE(Push(1).ok());
  ExpectError(model().Abort("u1", "too late"), StatusCode::kFailedPrecondition, {"committed"});
  EXPECT_THAT(Versions(), ElementsAre(1u));
}

TEST_F(ModelTest, ACommitWhoseSyncFailsLeavesTheOldVersionCurrent) {
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(Params(2));
  ASSERT_TRUE(begun.ok());
  FillUpdate(*begun->update, 2);
  device_.SetRule(FailCalls(DeviceCall::Kind::kSync, 0, 1, absl::DataLossError("I/O error")));
  ExpectError(model().Commit("u2").status(), StatusCode::kDataLoss, {"I/O error"});
  EXPECT_EQ(model().Snapshot().current, 1u);
  EXPECT_THAT(Names(), ElementsAre("1", "current"));
  ExpectError(model().Commit("u2").status(), StatusCode::kAborted, {"the commit failed", "I/O error"});
  EXPECT_TRUE(Push(2).ok()) << "a new update may try again";
}

TEST_F(ModelTest, ACommitThatCannotPublishLeavesTheOldVersionCurrent) {
  ASSERT_TRUE(Push(1).ok());
  const auto begun = Begin(Params(2));
  ASSERT_TRUE(begun.ok());
  FillUpdate(*begun->update, 2);
  std::filesystem::create_directories(absl::StrCat(store_->data_dir(), "/m/2/obstacle"));
  EXPECT_FALSE(model().Commit("u2").ok());
  EXPECT_EQ(model().Snapshot().current, 1u);
  EXPECT_EQ(std::filesystem::read_symlink(absl::StrCat(store_->data_dir(), "/m/current")).string(), "1");
  EXPECT_THAT(Names(), ElementsAre("1", "2", "current"));
  EXPECT_THAT(made_current_, testing::SizeIs(1));
}

TEST_F(ModelTest, AnEmptyModelCommitsAtOnce) {
  BeginParams params = Params(1);
  params.tensors.clear();
  ASSERT_TRUE(Begin(params).ok());
  const auto record = model().Commit("u1");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->total_bytes, 0u);
  EXPECT_EQ(record->tensors, 0u);
}

// ---- Versions ----

TEST_F(ModelTest, RetentionKeepsTheNewestVersions) {
  for (uint64_t version = 1; version <= 4; ++version) ASSERT_TRUE(Push(version).ok());
  EXPECT_THAT(Versions(), ElementsAre(3u, 4u));
  ExpectNamesInTheEnd({"3", "4", "current"});
}

TEST_F(ModelTest, RollbackMakesAHeldVersionCurrentAndRemovesNone) {
  ASSERT_TRUE(Push(1).ok());
  ASSERT_TRUE(Push(2).ok());
  EXPECT_EQ(model().Rollback(1).value(), 2u);
  EXPECT_EQ(model().Snapshot().current, 1u);
  EXPECT_EQ(model().FindVersion(0)->version, 1u);
  EXPECT_THAT(Versions(), ElementsAre(1u, 2u));
  EXPECT_THAT(made_current_, ElementsAre(Pair("m", 1u), Pair("m", 2u), Pair("m", 1u)));
  EXPECT_EQ(model().Rollback(2).value(), 1u) << "and forward again";
  ExpectError(model().Rollback(0).status(), StatusCode::kInvalidArgument, {"is 0"});
  ExpectError(model().Rollback(9).status(), StatusCode::kNotFound, {"version 9", "it holds 1, 2"});
}

TEST_F(ModelTest, RetentionNeverRemovesTheCurrentVersion) {
  limits_.keep_versions = 3;
  for (uint64_t version = 1; version <= 3; ++version) ASSERT_TRUE(Push(version).ok());
  ASSERT_TRUE(model().Rollback(1).ok());
  limits_.keep_versions = 1;
  ASSERT_TRUE(Push(4).ok());
  EXPECT_THAT(Versions(), ElementsAre(4u));
  EXPECT_EQ(model().Snapshot().current, 4u);
  ExpectNamesInTheEnd({"4", "current"});
}

TEST_F(ModelTest, FindVersionSaysWhatThereIs) {
  ExpectError(model().FindVersion(0).status(), StatusCode::kNotFound, {"'m' has no current version"});
  ExpectError(model().FindVersion(3).status(), StatusCode::kNotFound, {"does not hold version 3", "it holds none"});
  ASSERT_TRUE(Push(1).ok());
  EXPECT_EQ(model().FindVersion(0)->version, 1u);
  EXPECT_EQ(model().FindVersion(1)->version, 1u);
}

// ---- One operation at a time ----

TEST_F(ModelTest, OperationsWaitForEachOtherButNotForEver) {
  limits_.operation_wait = absl::Milliseconds(20);
  absl::Notification go_on;
  std::thread committer = CommitUntil(go_on);
  ExpectError(model().update_in_flight()->ReceivingStatus(), StatusCode::kFailedPrecondition, {"is being committed"});
  ExpectError(Begin(Params(2)).status(), StatusCode::kUnavailable, {"'m' is busy with a commit", "try again"});
  ExpectError(model().Abort("u1", "r"), StatusCode::kUnavailable, {"busy"});
  go_on.Notify();
  committer.join();
  EXPECT_TRUE(Begin(Params(2)).ok());
}

TEST_F(ModelTest, SoManyCallsWaitForAModelAndNoMoreButWhatEndsSomethingMay) {
  absl::Notification go_on;
  std::thread committer = CommitUntil(go_on);
  // Of seventeen one finds sixteen that wait already. It is told at once, and the others once the commit is over.
  std::atomic<int> told{0};
  std::atomic<int> committed{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 17; ++i) {
    callers.emplace_back([&] {
      const absl::Status status = model().Commit("u1").status();
      if (status.ok()) {
        ++committed;
      } else {
        ++told;
        ExpectError(status, StatusCode::kUnavailable,
                    {"'m' is busy with a commit", "16 other calls wait", "try again"});
      }
    });
  }
  EXPECT_TRUE(WaitFor([&] { return told == 1; }));
  EXPECT_EQ(committed, 0);
  // As the server does, to end one.
  std::thread aborter([&] { ExpectError(model().Abort("u1", "r"), StatusCode::kFailedPrecondition, {"committed"}); });
  go_on.Notify();
  for (std::thread& caller : callers) caller.join();
  aborter.join();
  committer.join();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(committed, 16);
}

TEST_F(ModelTest, EachChangeOfStateWakesWatchersAndProgressDoesNot) {
  uint64_t seen = model().Snapshot().change;
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  EXPECT_NE(model().Snapshot().change, seen);
  seen = model().Snapshot().change;
  FillUpdate(*begun->update, 1);
  EXPECT_EQ(model().Snapshot().change, seen);
  std::thread watcher([&] { model().AwaitChange(seen, absl::Seconds(30)); });
  EXPECT_TRUE(model().Commit("u1").ok());
  watcher.join();
  EXPECT_NE(model().Snapshot().change, seen);
  model().AwaitChange(model().Snapshot().change, absl::Milliseconds(1));
}

TEST_F(ModelTest, EndedUpdatesAreRememberedNewestFirstUpToALimit) {
  for (int i = 1; i <= 12; ++i) {
    ASSERT_TRUE(Begin(Params(1)).ok());
    ASSERT_TRUE(model().Abort(absl::StrCat("u", i), absl::StrCat("reason ", i)).ok());
  }
  const ModelSnapshot snapshot = model().Snapshot();
  ASSERT_EQ(snapshot.updates.size(), 8u);
  EXPECT_EQ(snapshot.updates[0].reason, "reason 12");
  EXPECT_EQ(snapshot.updates[7].reason, "reason 5");
  EXPECT_TRUE(model().IsForgettable());
}

TEST_F(ModelTest, AnEndedUpdatesStreamsAreCutWithTheReason) {
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  absl::Status cut;
  begun->update->AddStream([&](const absl::Status& reason) { cut = reason; });
  ASSERT_TRUE(model().Abort("u1", "changed my mind").ok());
  ExpectError(cut, StatusCode::kAborted, {"changed my mind"});
}

TEST_F(ModelTest, AnEndedUpdateShowsNoOpenStreams) {
  const auto begun = Begin(Params(1));
  ASSERT_TRUE(begun.ok());
  const uint64_t token = begun->update->AddStream([](const absl::Status&) {});
  ASSERT_TRUE(model().Abort("u1", "r").ok());
  begun->update->RemoveStream(token);
  EXPECT_EQ(model().Snapshot().updates[0].open_streams, 0u);
}

}  // namespace
}  // namespace weightstream
