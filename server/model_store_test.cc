#include "server/model_store.h"

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "server/durable_files.h"
#include "server/test_update.h"
#include "server/test_versions.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

class ModelStoreTest : public testing::Test {
 protected:
  std::unique_ptr<ModelStore> Open() {
    absl::StatusOr<std::unique_ptr<ModelStore>> store = ModelStore::Open(data_dir_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  std::string Path(absl::string_view path) const { return absl::StrCat(data_dir_, "/", path); }
  // What a reader that follows `current` reads.
  std::string Current() const { return ReadTestFile(Path("m/current/model.safetensors")); }

  const std::string data_dir_ = absl::StrCat(MakeTestFolder(), "/data");
};

TEST_F(ModelStoreTest, PublishedIsCurrentAndByteForByteWhatWasWritten) {
  const auto store = Open();
  const absl::Time before = absl::Now() - absl::Seconds(1);
  const absl::StatusOr<VersionRecord> record = PublishVersion(*store, "m", 3);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->version, 3u);
  EXPECT_EQ(record->total_bytes, 1000u);
  EXPECT_EQ(record->tensors, 1u);
  EXPECT_EQ(record->path, Path("m/3/model.safetensors"));
  EXPECT_EQ(record->manifest_crc32c, ExtendCrc32c(0, EncodeSafetensorsHeader(OneTensorLayout(1000))));
  EXPECT_GE(record->commit_time, before);
  EXPECT_EQ(Current(), VersionFile(3));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("3", "current"));
}

TEST_F(ModelStoreTest, OpenVersionOutlivesItsRemoval) {
  const auto store = Open();
  ASSERT_TRUE(PublishVersion(*store, "m", 1).ok());
  ASSERT_TRUE(PublishVersion(*store, "m", 2).ok());
  const absl::StatusOr<OpenVersion> open = store->OpenForReading("m", 1);
  ASSERT_TRUE(open.ok()) << open.status();
  const absl::StatusOr<std::string> removed = store->RemoveVersion("m", 1);
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_THAT(NamesIn(Path("m")), Not(Contains("1")));
  ASSERT_TRUE(ModelStore::FreeRemoved(*removed).ok());
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("2", "current"));
  EXPECT_EQ(open->data(0), PatternBytes(1, 1000));
  EXPECT_EQ(open->layout.metadata.at("format"), "pt");
  ExpectError(store->OpenForReading("m", 1).status(), StatusCode::kNotFound, {"m/1"});
}

TEST_F(ModelStoreTest, SetCurrentGoesBackAndForth) {
  const auto store = Open();
  ASSERT_TRUE(PublishVersion(*store, "m", 1).ok());
  ASSERT_TRUE(PublishVersion(*store, "m", 2).ok());
  EXPECT_TRUE(store->SetCurrent("m", 1).ok());
  EXPECT_EQ(Current(), VersionFile(1));
  EXPECT_TRUE(store->SetCurrent("m", 2).ok());
  EXPECT_EQ(Current(), VersionFile(2));
  ExpectError(store->SetCurrent("m", 9), StatusCode::kNotFound, {"'m'", "9"});
  EXPECT_EQ(Current(), VersionFile(2));
}

TEST_F(ModelStoreTest, DiscardedIncomingLeavesNothing) {
  const auto store = Open();
  ASSERT_TRUE(PublishVersion(*store, "m", 1).ok());
  ASSERT_TRUE(store->CreateIncoming("m", "u2", "header").ok());
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre(".incoming-u2", "1", "current"));
  EXPECT_TRUE(store->DiscardIncoming("m", "u2").ok());
  EXPECT_TRUE(store->DiscardIncoming("m", "u2").ok());
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("1", "current"));
}

TEST_F(ModelStoreTest, RestartFindsEveryModelAndVersion) {
  {
    const auto store = Open();
    ASSERT_TRUE(PublishVersion(*store, "m", 2).ok());
    ASSERT_TRUE(PublishVersion(*store, "m", 10).ok());
    ASSERT_TRUE(PublishVersion(*store, "other", 1).ok());
    ASSERT_TRUE(store->SetCurrent("m", 2).ok());
  }
  const auto store = Open();
  EXPECT_THAT(store->warnings(), IsEmpty());
  ASSERT_EQ(store->recovered().size(), 2u);
  const StoredModel& model = store->recovered()[0];
  EXPECT_EQ(model.name, "m");
  EXPECT_EQ(model.current, 2u);
  ASSERT_EQ(model.versions.size(), 2u);
  EXPECT_EQ(model.versions[0].version, 2u);
  EXPECT_EQ(model.versions[1].version, 10u) << "by number, not by name";
  EXPECT_EQ(store->recovered()[1].name, "other");
}

TEST_F(ModelStoreTest, WhatIsNotOursIsLeftAlone) {
  ASSERT_TRUE(MakeFolder(Path("m/notes")).ok());
  ASSERT_TRUE(MakeFolder(Path("m/007")).ok());
  ASSERT_TRUE(MakeFolder(Path(".hidden/.incoming-u")).ok());
  WriteTestFile(Path("README"), "x");
  WriteVersion(Path("m/1"), 1);
  ASSERT_TRUE(MakeLink("1", Path("m/current")).ok());
  const auto store = Open();
  EXPECT_THAT(NamesIn(data_dir_), ElementsAre(".hidden", ".lock", "README", "m"));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("007", "1", "current", "notes"));
  EXPECT_TRUE(IsFolder(Path(".hidden/.incoming-u")));
  ASSERT_EQ(store->recovered().size(), 1u);
  EXPECT_EQ(store->recovered()[0].versions.size(), 1u);
}

TEST_F(ModelStoreTest, CorruptVersionIsLeftAloneWithAWarning) {
  WriteVersion(Path("m/1"), 1);
  ASSERT_TRUE(MakeFolder(Path("m/2")).ok());
  const std::string cut = VersionFile(2).substr(0, 4500);
  WriteTestFile(Path("m/2/model.safetensors"), cut);
  ASSERT_TRUE(MakeFolder(Path("m/3")).ok());
  ASSERT_TRUE(MakeLink("1", Path("m/current")).ok());
  const auto store = Open();
  ASSERT_EQ(store->recovered().size(), 1u);
  EXPECT_EQ(store->recovered()[0].versions.size(), 1u);
  ASSERT_EQ(store->warnings().size(), 2u);
  EXPECT_THAT(store->warnings()[0], testing::HasSubstr("version 2 of model 'm' is not served and was left alone"));
  EXPECT_THAT(store->warnings()[1], testing::HasSubstr("version 3 of model 'm'"));
  EXPECT_EQ(ReadTestFile(Path("m/2/model.safetensors")), cut);
}

TEST_F(ModelStoreTest, TwoStoresNeverShareAFolder) {
  {
    const auto store = Open();
    ExpectError(ModelStore::Open(data_dir_).status(), StatusCode::kFailedPrecondition,
                {data_dir_, "in use by another weightstream-server", "--data-dir"});
    EXPECT_TRUE(PublishVersion(*store, "m", 1).ok()) << "the first goes on";
  }
  EXPECT_NE(Open(), nullptr) << "the lock goes with its holder";
}

TEST_F(ModelStoreTest, AFolderThatCannotBeUsedIsAnErrorWithARemedy) {
  ExpectError(ModelStore::Open("").status(), StatusCode::kInvalidArgument, {"--data-dir"});
  WriteTestFile(data_dir_, "a file in the way");
  ExpectError(ModelStore::Open(data_dir_).status(), StatusCode::kFailedPrecondition,
              {data_dir_, "not a folder", "--data-dir"});
  EXPECT_THAT(std::string(ModelStore::Open(Path("below")).status().message()), testing::HasSubstr("--data-dir"));
}

TEST_F(ModelStoreTest, AFolderThatCannotBeWrittenIsAnErrorWithARemedy) {
  // Root may write anywhere, so not by permissions: a folder where the lock should be.
  ASSERT_TRUE(MakeFolder(Path(".lock")).ok());
  const absl::Status status = ModelStore::Open(data_dir_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr(data_dir_), testing::HasSubstr("--data-dir")));
}

// A publish that fails must leave the old version current, the folder clean, and the way open for another try.
class FailedPublishTest : public ModelStoreTest {
 protected:
  FailedPublishTest() : store_(Open()) { EXPECT_TRUE(PublishVersion(*store_, "m", 1).ok()); }

  const std::unique_ptr<ModelStore> store_;
};

TEST_F(FailedPublishTest, AFolderInTheVersionsPlace) {
  ASSERT_TRUE(MakeFolder(Path("m/2/obstacle")).ok());
  const absl::Status status = PublishVersion(*store_, "m", 2).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(Path("m/2")));
  EXPECT_EQ(Current(), VersionFile(1));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre(".incoming-u2", "1", "2", "current"));
  EXPECT_TRUE(store_->DiscardIncoming("m", "u2").ok());
  EXPECT_TRUE(PublishVersion(*store_, "m", 3).ok());
  EXPECT_EQ(Current(), VersionFile(3));
}

TEST_F(FailedPublishTest, AnIncomingFileThatIsCut) {
  const absl::StatusOr<std::string> path = store_->CreateIncoming("m", "u2", VersionFile(2).substr(0, 4500));
  ASSERT_TRUE(path.ok());
  EXPECT_FALSE(store_->Publish("m", "u2", 2, OneTensorLayout(1000), OneTensorCrc32c()).ok());
  EXPECT_EQ(Current(), VersionFile(1));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre(".incoming-u2", "1", "current"));
}

TEST_F(FailedPublishTest, AnIncomingFileWhoseHeaderSomebodyChanged) {
  std::string file = VersionFile(2);
  file[20] ^= 1;
  ASSERT_TRUE(store_->CreateIncoming("m", "u2", file).ok());
  ExpectError(store_->Publish("m", "u2", 2, OneTensorLayout(1000), OneTensorCrc32c()).status(),
              absl::StatusCode::kDataLoss, {Path("m/.incoming-u2"), "push the version again"});
  EXPECT_EQ(Current(), VersionFile(1));
}

TEST_F(FailedPublishTest, NothingIncoming) {
  EXPECT_FALSE(store_->Publish("m", "never", 2, OneTensorLayout(1000), OneTensorCrc32c()).ok());
  EXPECT_EQ(Current(), VersionFile(1));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("1", "current"));
}

TEST_F(FailedPublishTest, AFolderInThePlaceOfCurrentIsNotDeleted) {
  ASSERT_TRUE(RemoveAll(Path("m/current")).ok());
  ASSERT_TRUE(MakeFolder(Path("m/current/somebodys")).ok());
  EXPECT_FALSE(PublishVersion(*store_, "m", 2).ok());
  EXPECT_TRUE(IsFolder(Path("m/current/somebodys")));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre(".incoming-u2", "1", "current"));
}

TEST_F(FailedPublishTest, AFailedSetCurrentLeavesNoIntent) {
  ASSERT_TRUE(PublishVersion(*store_, "m", 2).ok());
  ASSERT_TRUE(RemoveAll(Path("m/current")).ok());
  ASSERT_TRUE(MakeFolder(Path("m/current/somebodys")).ok());
  EXPECT_FALSE(store_->SetCurrent("m", 1).ok());
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("1", "2", "current")) << "a restart would carry a .next through";
}

TEST_F(ModelStoreTest, AReaderOfCurrentSeesOnlyWholeVersions) {
  const auto store = Open();
  ASSERT_TRUE(PublishVersion(*store, "m", 1).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> broken{0};
  std::thread reader([&] {
    uint64_t last = 0;
    while (!stop) {
      const absl::StatusOr<std::string> link = ReadLink(Path("m/current"));
      const auto file = MappedFile::Open(Path("m/current/model.safetensors"));
      if (!link.ok() || !file.ok()) {
        ++broken;
        continue;
      }
      const std::string bytes((*file)->bytes().data(), (*file)->bytes().size());
      uint64_t found = 0;
      for (uint64_t version = last; version <= 60 && found == 0; ++version) {
        if (version > 0 && bytes == VersionFile(version)) found = version;
      }
      // Never an earlier one either, and never a mixture.
      if (found == 0) ++broken;
      last = std::max(last, found);
    }
  });
  for (uint64_t version = 2; version <= 60; ++version) {
    EXPECT_TRUE(PublishVersion(*store, "m", version).ok());
  }
  stop = true;
  reader.join();
  EXPECT_EQ(broken, 0);
}

}  // namespace
}  // namespace weightstream
