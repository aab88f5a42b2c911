#include "server/model_store.h"

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
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
  ASSERT_TRUE(store->FreeRemoved(*removed).ok());
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
  std::filesystem::create_directories(Path("m/notes"));
  std::filesystem::create_directories(Path("m/007"));
  std::filesystem::create_directories(Path(".hidden/.incoming-u"));
  WriteTestFile(Path("README"), "x");
  WriteVersion(Path("m/1"), 1);
  std::filesystem::create_symlink("1", Path("m/current"));
  const auto store = Open();
  EXPECT_THAT(NamesIn(data_dir_), ElementsAre(".hidden", ".lock", "README", "m"));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre("007", "1", "current", "notes"));
  EXPECT_TRUE(std::filesystem::is_directory(Path(".hidden/.incoming-u")));
  ASSERT_EQ(store->recovered().size(), 1u);
  EXPECT_EQ(store->recovered()[0].versions.size(), 1u);
}

TEST_F(ModelStoreTest, CorruptVersionIsLeftAloneWithAWarning) {
  WriteVersion(Path("m/1"), 1);
  std::filesystem::create_directories(Path("m/2"));
  const std::string cut = VersionFile(2).substr(0, 4500);
  WriteTestFile(Path("m/2/model.safetensors"), cut);
  std::filesystem::create_directories(Path("m/3"));
  std::filesystem::create_symlink("1", Path("m/current"));
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
  std::filesystem::create_directories(Path(".lock"));
  const absl::Status status = ModelStore::Open(data_dir_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr(data_dir_), testing::HasSubstr("--data-dir")));
}

// What somebody who may write into the folder could plant: none of it leads elsewhere.
class PlantedLinkTest : public ModelStoreTest {
 protected:
  PlantedLinkTest() {
    // As misleading as it can be: a whole version, where a link could lead.
    WriteVersion(Elsewhere("model/1"), 7);
    std::filesystem::create_symlink("1", Elsewhere("model/current"));
    std::filesystem::create_directories(data_dir_);
  }

  std::string Elsewhere(absl::string_view name) const { return absl::StrCat(elsewhere_, "/", name); }
  void ExpectElsewhereUntouched() const {
    EXPECT_THAT(NamesIn(elsewhere_), ElementsAre("model"));
    EXPECT_THAT(NamesIn(Elsewhere("model")), ElementsAre("1", "current"));
    EXPECT_THAT(NamesIn(Elsewhere("model/1")), ElementsAre("model.safetensors"));
    EXPECT_EQ(ReadTestFile(Elsewhere("model/1/model.safetensors")), VersionFile(7));
  }

  const std::string elsewhere_ = MakeTestFolder();
};

TEST_F(PlantedLinkTest, InAModelsPlace) {
  std::filesystem::create_symlink(Elsewhere("model"), Path("m"));
  const auto store = Open();
  EXPECT_THAT(store->recovered(), IsEmpty());
  EXPECT_THAT(store->warnings(), ElementsAre(testing::HasSubstr(Path("m is a symbolic link"))));
  for (const absl::Status& status :
       {PublishVersion(*store, "m", 2).status(), store->CheckPlace("m", 2), store->OpenForReading("m", 1).status(),
        store->SetCurrent("m", 1), store->RemoveVersion("m", 1).status(), store->DiscardIncoming("m", "u"),
        store->CreateSpare("m", "1", "").status()}) {
    ExpectError(status, StatusCode::kFailedPrecondition, {Path("m is a symbolic link"), "remove it"});
  }
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, InAModelsPlaceWhileTheServerRuns) {
  const auto store = Open();
  ASSERT_TRUE(PublishVersion(*store, "m", 1).ok());
  std::filesystem::rename(Path("m"), Path("kept"));
  std::filesystem::create_symlink(Elsewhere("model"), Path("m"));
  ExpectError(store->OpenForReading("m", 1).status(), StatusCode::kFailedPrecondition, {"symbolic link"});
  ExpectError(PublishVersion(*store, "m", 2).status(), StatusCode::kFailedPrecondition, {"symbolic link"});
  EXPECT_FALSE(store->RemoveVersion("m", 1).ok());
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, InAVersionsPlace) {
  std::filesystem::create_directories(Path("m"));
  std::filesystem::create_symlink(Elsewhere("model/1"), Path("m/1"));
  std::filesystem::create_symlink("1", Path("m/current"));
  const auto store = Open();
  EXPECT_THAT(store->recovered(), IsEmpty());
  EXPECT_THAT(store->warnings(), Contains(testing::HasSubstr(Path("m/1 is a symbolic link"))));
  ExpectError(store->OpenForReading("m", 1).status(), StatusCode::kFailedPrecondition, {Path("m/1"), "symbolic link"});
  ExpectError(store->CheckPlace("m", 1), StatusCode::kFailedPrecondition, {Path("m/1, a symbolic link,"), "remove it"});
  EXPECT_FALSE(PublishVersion(*store, "m", 1).ok());
  EXPECT_TRUE(PublishVersion(*store, "m", 2).ok());
  EXPECT_EQ(Current(), VersionFile(2));
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, InAFilesPlace) {
  WriteVersion(Path("m/1"), 1);
  WriteVersion(Path("m/2"), 2);
  std::filesystem::create_symlink("2", Path("m/current"));
  std::filesystem::remove(Path("m/1/model.safetensors"));
  std::filesystem::create_symlink(Elsewhere("model/1/model.safetensors"), Path("m/1/model.safetensors"));
  const auto store = Open();
  ASSERT_EQ(store->recovered().size(), 1u);
  ASSERT_EQ(store->recovered()[0].versions.size(), 1u);
  EXPECT_EQ(store->recovered()[0].versions[0].version, 2u);
  EXPECT_THAT(store->warnings(), ElementsAre(testing::HasSubstr(Path("m/1/model.safetensors is a symbolic link"))));
  ExpectError(store->OpenForReading("m", 1).status(), StatusCode::kFailedPrecondition, {"symbolic link"});
  EXPECT_TRUE(store->RemoveVersion("m", 1).ok());
  EXPECT_TRUE(store->FreeRemoved("m/.removed-1").ok()) << "the link goes, not what it names";
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, InAnIncomingFilesPlace) {
  const auto store = Open();
  ASSERT_TRUE(store->CreateIncoming("m", "u1", VersionFile(1)).ok());
  const std::string incoming = Path("m/.incoming-u1/model.safetensors");
  std::filesystem::remove(incoming);
  std::filesystem::create_symlink(Elsewhere("model/1/model.safetensors"), incoming);
  ExpectError(store->Publish("m", "u1", 1, OneTensorLayout(1000), OneTensorCrc32c()).status(),
              StatusCode::kFailedPrecondition, {incoming, "symbolic link"});
  ASSERT_TRUE(store->CreateSpare("m", "1", "").ok());
  std::filesystem::remove(Path("m/.spare-1/model.safetensors"));
  std::filesystem::create_symlink(Elsewhere("model/1/model.safetensors"), Path("m/.spare-1/model.safetensors"));
  ExpectError(store->SetSpareHeader("m", "1", "header"), StatusCode::kFailedPrecondition, {"symbolic link"});
  EXPECT_TRUE(store->DiscardIncoming("m", "u1").ok());
  EXPECT_TRUE(store->DiscardSpare("m", "1").ok());
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, InThePlaceOfCurrent) {
  WriteVersion(Path("m/1"), 1);
  std::filesystem::create_symlink(Elsewhere("model/1"), Path("m/current"));
  std::filesystem::create_symlink(Elsewhere("model/1"), Path("m/.next"));
  const auto store = Open();
  ASSERT_EQ(store->recovered().size(), 1u);
  EXPECT_EQ(store->recovered()[0].current, 0u);
  EXPECT_THAT(store->warnings(), ElementsAre(testing::HasSubstr("none is current")));
  EXPECT_TRUE(PublishVersion(*store, "m", 2).ok());
  EXPECT_EQ(Current(), VersionFile(2));
  ExpectElsewhereUntouched();
}

TEST_F(PlantedLinkTest, TheDataDirectoryItselfMayBeALink) {
  const std::string link = absl::StrCat(elsewhere_, "-link");
  std::filesystem::create_symlink(data_dir_, link);
  const auto store = ModelStore::Open(link);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE(PublishVersion(**store, "m", 1).ok());
  EXPECT_EQ(Current(), VersionFile(1));
}

// A publish that fails must leave the old version current, the folder clean, and the way open for another try.
class FailedPublishTest : public ModelStoreTest {
 protected:
  FailedPublishTest() : store_(Open()) { EXPECT_TRUE(PublishVersion(*store_, "m", 1).ok()); }

  const std::unique_ptr<ModelStore> store_;
};

TEST_F(FailedPublishTest, AFolderInTheVersionsPlace) {
  std::filesystem::create_directories(Path("m/2/obstacle"));
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
  const absl::StatusOr<NewFile> incoming = store_->CreateIncoming("m", "u2", VersionFile(2).substr(0, 4500));
  ASSERT_TRUE(incoming.ok());
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
  std::filesystem::remove_all(Path("m/current"));
  std::filesystem::create_directories(Path("m/current/somebodys"));
  EXPECT_FALSE(PublishVersion(*store_, "m", 2).ok());
  EXPECT_TRUE(std::filesystem::is_directory(Path("m/current/somebodys")));
  EXPECT_THAT(NamesIn(Path("m")), ElementsAre(".incoming-u2", "1", "current"));
}

TEST_F(FailedPublishTest, AFailedSetCurrentLeavesNoIntent) {
  ASSERT_TRUE(PublishVersion(*store_, "m", 2).ok());
  std::filesystem::remove_all(Path("m/current"));
  std::filesystem::create_directories(Path("m/current/somebodys"));
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
      const bool link = std::filesystem::is_symlink(Path("m/current"));
      const auto file = MappedFile::Open(Path("m/current/model.safetensors"));
      if (!link || !file.ok()) {
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
