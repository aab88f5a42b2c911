#include "server/data_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;
using testing::ElementsAre;
using Kind = DataFolder::Kind;

class DataFolderTest : public testing::Test {
 protected:
  std::string Path(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

  // As errors write it, without // in it.
  const std::string path_ = fs::path(MakeTestFolder()).lexically_normal().string();
  const DataFolder folder_ = DataFolder::Open(path_).value();
};

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

TEST_F(DataFolderTest, OpenMakesTheFolderAndItsParents) {
  const absl::StatusOr<DataFolder> made = DataFolder::Open(Path("a/b/c"));
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->path(), Path("a/b/c"));
  EXPECT_TRUE(fs::is_directory(Path("a/b/c")));
  EXPECT_TRUE(DataFolder::Open(Path("a/b/c/")).ok());
  EXPECT_TRUE(DataFolder::Open(Path("a/b/d/")).ok());
  EXPECT_TRUE(fs::is_directory(Path("a/b/d")));
}

TEST_F(DataFolderTest, OpenRefusesAFileInTheWay) {
  WriteTestFile(Path("file"), "x");
  ExpectError(DataFolder::Open(Path("file")).status(), StatusCode::kFailedPrecondition, {Path("file"), "not a folder"});
  EXPECT_FALSE(DataFolder::Open(Path("file/below")).ok());
}

TEST_F(DataFolderTest, ModesAreExactWhateverTheUmask) {
  for (const mode_t mask : {0, 022, 027, 077}) {
    const mode_t before = umask(mask);
    const std::string name = absl::StrCat("umask-", mask);
    const absl::StatusOr<DataFolder> opened = DataFolder::Open(Path(absl::StrCat(name, "/data")));
    const absl::Status made = folder_.MakeFolder(absl::StrCat(name, "/m/1"));
    const absl::Status created = folder_.CreateFile(absl::StrCat(name, "/m/1/f"), "x").status();
    const absl::Status lock = folder_.CreateOrOpenFile(absl::StrCat(name, "/lock")).status();
    umask(before);
    EXPECT_TRUE(opened.ok() && made.ok() && created.ok() && lock.ok()) << opened.status() << made << created << lock;
    for (const char* folder : {"", "/data", "/m", "/m/1"}) EXPECT_EQ(ModeOf(Path(name + folder)), 0750u) << folder;
    for (const char* file : {"/m/1/f", "/lock"}) EXPECT_EQ(ModeOf(Path(name + file)), 0640u) << file;
  }
}

TEST_F(DataFolderTest, TheGroupOfASetGroupIdFolderIsInherited) {
  fs::create_directory(Path("shared"));
  ASSERT_EQ(chmod(Path("shared").c_str(), 02775), 0);
  EXPECT_TRUE(folder_.MakeFolder("shared/m/1").ok());
  EXPECT_EQ(ModeOf(Path("shared")), 02775u) << "what was there keeps its mode";
  EXPECT_EQ(ModeOf(Path("shared/m")), 02750u);
  EXPECT_EQ(ModeOf(Path("shared/m/1")), 02750u);
  EXPECT_TRUE(folder_.CreateFile("shared/m/1/f", "").ok());
  EXPECT_EQ(ModeOf(Path("shared/m/1/f")), 0640u);
}

TEST_F(DataFolderTest, MakeFolderMakesParentsAndIsIdempotent) {
  EXPECT_TRUE(folder_.MakeFolder("a/b/c").ok());
  EXPECT_TRUE(folder_.MakeFolder("a/b/c").ok());
  EXPECT_EQ(folder_.KindOf("a/b/c").value(), Kind::kFolder);
  WriteTestFile(Path("file"), "x");
  ExpectError(folder_.MakeFolder("file"), StatusCode::kFailedPrecondition, {Path("file"), "not a folder"});
  EXPECT_FALSE(folder_.MakeFolder("file/below").ok());
}

TEST_F(DataFolderTest, CreateFileWritesEveryByteAndReplacesNothing) {
  const std::string bytes(100'000, 'w');
  EXPECT_TRUE(folder_.CreateFile("new", bytes).ok());
  EXPECT_EQ(ReadTestFile(Path("new")), bytes);
  ExpectError(folder_.CreateFile("new", "other").status(), StatusCode::kAlreadyExists, {Path("new")});
  EXPECT_TRUE(folder_.CreateOrOpenFile("new").ok());
  EXPECT_EQ(ReadTestFile(Path("new")), bytes);
  EXPECT_TRUE(folder_.OverwriteFile("new", "front").ok());
  EXPECT_EQ(ReadTestFile(Path("new")), "front" + bytes.substr(5));
}

TEST_F(DataFolderTest, LinksAreMadeReplacedAndRead) {
  ExpectError(folder_.ReadLink("link").status(), StatusCode::kNotFound, {Path("link")});
  EXPECT_TRUE(folder_.MakeLink("1", "link").ok());
  EXPECT_TRUE(folder_.MakeLink("2", "link").ok());
  EXPECT_EQ(folder_.ReadLink("link").value(), "2");
  EXPECT_EQ(folder_.KindOf("link").value(), Kind::kLink);
  WriteTestFile(Path("file"), "x");
  EXPECT_TRUE(absl::IsInvalidArgument(folder_.ReadLink("file").status()));
}

TEST_F(DataFolderTest, MakeLinkDoesNotReplaceAFolder) {
  ASSERT_TRUE(folder_.MakeFolder("folder/kept").ok());
  EXPECT_FALSE(folder_.MakeLink("1", "folder").ok());
  EXPECT_TRUE(fs::is_directory(Path("folder/kept")));
}

TEST_F(DataFolderTest, RenameNamesBothPathsInItsError) {
  ExpectError(folder_.Rename("none", "there"), StatusCode::kNotFound, {Path("none"), Path("there")});
  WriteTestFile(Path("a"), "x");
  EXPECT_TRUE(folder_.Rename("a", "b").ok());
  EXPECT_EQ(ReadTestFile(Path("b")), "x");
}

TEST_F(DataFolderTest, RemoveAllTakesTheTreeAndFollowsNoLink) {
  fs::create_directories(Path("outside"));
  WriteTestFile(Path("outside/kept"), "x");
  fs::create_directories(Path("tree/deep/deeper"));
  WriteTestFile(Path("tree/deep/file"), "x");
  fs::create_symlink(Path("outside"), Path("tree/deep/link"));
  EXPECT_TRUE(folder_.RemoveAll("tree").ok());
  EXPECT_TRUE(folder_.RemoveAll("tree").ok()) << "nothing there is fine";
  EXPECT_TRUE(folder_.RemoveAll("tree/below").ok());
  EXPECT_THAT(NamesIn(path_), ElementsAre("outside"));
  fs::create_symlink(Path("outside"), Path("link"));
  EXPECT_TRUE(folder_.RemoveAll("link").ok());
  EXPECT_EQ(ReadTestFile(Path("outside/kept")), "x");
}

TEST_F(DataFolderTest, ListFolderIsSortedAndComplete) {
  WriteTestFile(Path("b"), "");
  WriteTestFile(Path(".hidden"), "");
  WriteTestFile(Path("a"), "");
  for (int again = 0; again < 2; ++again) EXPECT_THAT(folder_.ListFolder("").value(), ElementsAre(".hidden", "a", "b"));
  ExpectError(folder_.ListFolder("none").status(), StatusCode::kNotFound, {Path("none")});
}

TEST_F(DataFolderTest, WhatIsThereIsToldApart) {
  WriteTestFile(Path("file"), "x");
  EXPECT_EQ(folder_.KindOf("file").value(), Kind::kOther);
  EXPECT_EQ(folder_.KindOf("none").value(), Kind::kNothing);
  EXPECT_EQ(folder_.KindOf("none/below").value(), Kind::kNothing);
}

TEST_F(DataFolderTest, NoOperationFollowsALinkOnItsWay) {
  const std::string outside = MakeTestFolder();
  fs::create_directories(outside + "/real");
  WriteTestFile(outside + "/real/file", "kept");
  fs::create_symlink("7", outside + "/real/link");
  fs::create_symlink(outside, Path("model"));
  fs::create_directories(Path("m"));
  fs::create_symlink(outside + "/real", Path("m/1"));
  // As the first component, and as a later one.
  for (const std::string link : {"model/real", "m/1"}) {
    for (const absl::Status& status :
         {folder_.MakeFolder(link + "/new"), folder_.CreateFile(link + "/new", "x").status(),
          folder_.CreateOrOpenFile(link + "/file").status(), folder_.OpenFile(link + "/file").status(),
          folder_.OverwriteFile(link + "/file", "x"), folder_.SetModifiedNow(link + "/file"),
          folder_.Rename(link + "/file", "taken"), folder_.Rename("m", link + "/m"), folder_.SyncFolder(link),
          folder_.MakeLink("1", link + "/link"), folder_.ReadLink(link + "/link").status(),
          folder_.RemoveAll(link + "/file"), folder_.ListFolder(link).status(),
          folder_.KindOf(link + "/file").status()}) {
      ExpectError(status, StatusCode::kFailedPrecondition, {link.substr(0, link.find("/real")), "symbolic link"});
    }
  }
  EXPECT_THAT(NamesIn(outside), ElementsAre("real"));
  EXPECT_THAT(NamesIn(outside + "/real"), ElementsAre("file", "link"));
  EXPECT_EQ(ReadTestFile(outside + "/real/file"), "kept");
}

TEST_F(DataFolderTest, NoFileIsOpenedThroughALinkInItsPlace) {
  const std::string outside = MakeTestFolder() + "/file";
  WriteTestFile(outside, "kept");
  fs::create_symlink(outside, Path("there"));
  fs::create_symlink(outside + "-new", Path("dangling"));
  ExpectError(folder_.OpenFile("there").status(), StatusCode::kFailedPrecondition, {Path("there"), "symbolic link"});
  ExpectError(folder_.OverwriteFile("there", "x"), StatusCode::kFailedPrecondition, {Path("there"), "symbolic link"});
  ExpectError(folder_.CreateOrOpenFile("there").status(), StatusCode::kFailedPrecondition, {"symbolic link"});
  EXPECT_FALSE(folder_.CreateFile("dangling", "x").ok());
  EXPECT_FALSE(fs::exists(outside + "-new"));
  EXPECT_EQ(ReadTestFile(outside), "kept");
}

TEST_F(DataFolderTest, APipeInAFilesPlaceIsNotWaitedFor) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(folder_.OverwriteFile("pipe", "x").ok());
  EXPECT_TRUE(folder_.OpenFile("pipe").ok()) << "who reads it sees that it is no file";
}

TEST_F(DataFolderTest, NamesThatLeadUpwardsAreRefused) {
  WriteTestFile(Path("file"), "x");
  EXPECT_FALSE(folder_.OpenFile("../" + fs::path(path_).filename().string() + "/file").ok());
}

TEST_F(DataFolderTest, TouchSaysWhichPathFailedAndFreeSpaceIsTold) {
  ExpectError(folder_.SetModifiedNow("none"), StatusCode::kNotFound, {Path("none")});
  EXPECT_GT(folder_.FreeBytes().value(), 0u);
}

}  // namespace
}  // namespace weightstream
