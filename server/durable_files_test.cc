#include "server/durable_files.h"

#include <sys/stat.h>

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

class DurableFilesTest : public testing::Test {
 protected:
  std::string Path(absl::string_view name) const { return absl::StrCat(folder_, "/", name); }

  const std::string folder_ = MakeTestFolder();
};

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

TEST_F(DurableFilesTest, MakeFolderMakesParentsAndIsIdempotent) {
  EXPECT_TRUE(MakeFolder(Path("a/b/c")).ok());
  EXPECT_TRUE(MakeFolder(Path("a/b/c")).ok());
  EXPECT_TRUE(IsFolder(Path("a/b/c")));
  EXPECT_EQ(ModeOf(Path("a/b/c")) & 0027, 0) << "nothing for others";
}

TEST_F(DurableFilesTest, MakeFolderRefusesAFileInTheWay) {
  WriteTestFile(Path("file"), "x");
  ExpectError(MakeFolder(Path("file")), StatusCode::kFailedPrecondition, {Path("file"), "not a folder"});
  EXPECT_FALSE(MakeFolder(Path("file/below")).ok());
}

TEST_F(DurableFilesTest, CreateFileWritesEveryByteAndReplacesNothing) {
  const std::string bytes(100'000, 'w');
  EXPECT_TRUE(CreateFile(Path("new"), bytes).ok());
  EXPECT_EQ(ReadTestFile(Path("new")), bytes);
  EXPECT_EQ(ModeOf(Path("new")) & 0137, 0) << "not executable, nothing for others";
  ExpectError(CreateFile(Path("new"), "other"), StatusCode::kAlreadyExists, {Path("new")});
  EXPECT_EQ(ReadTestFile(Path("new")), bytes);
}

TEST_F(DurableFilesTest, CreateFileFollowsNoLink) {
  ASSERT_TRUE(MakeLink(Path("elsewhere"), Path("link")).ok());
  EXPECT_FALSE(CreateFile(Path("link"), "x").ok());
  EXPECT_FALSE(fs::exists(Path("elsewhere")));
}

TEST_F(DurableFilesTest, LinksAreMadeReplacedAndRead) {
  ExpectError(ReadLink(Path("link")).status(), StatusCode::kNotFound, {Path("link")});
  EXPECT_TRUE(MakeLink("1", Path("link")).ok());
  EXPECT_TRUE(MakeLink("2", Path("link")).ok());
  EXPECT_EQ(ReadLink(Path("link")).value(), "2");
  WriteTestFile(Path("file"), "x");
  EXPECT_FALSE(ReadLink(Path("file")).ok());
}

TEST_F(DurableFilesTest, MakeLinkDoesNotReplaceAFolder) {
  ASSERT_TRUE(MakeFolder(Path("folder/kept")).ok());
  EXPECT_FALSE(MakeLink("1", Path("folder")).ok());
  EXPECT_TRUE(IsFolder(Path("folder/kept")));
}

TEST_F(DurableFilesTest, RenameNamesBothPathsInItsError) {
  ExpectError(Rename(Path("none"), Path("there")), StatusCode::kNotFound, {Path("none"), Path("there")});
  WriteTestFile(Path("a"), "x");
  EXPECT_TRUE(Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(ReadTestFile(Path("b")), "x");
}

TEST_F(DurableFilesTest, RemoveAllTakesTheTreeAndFollowsNoLink) {
  ASSERT_TRUE(MakeFolder(Path("outside")).ok());
  WriteTestFile(Path("outside/kept"), "x");
  ASSERT_TRUE(MakeFolder(Path("tree/deep")).ok());
  ASSERT_TRUE(MakeLink(Path("outside"), Path("tree/link")).ok());
  EXPECT_TRUE(RemoveAll(Path("tree")).ok());
  EXPECT_TRUE(RemoveAll(Path("tree")).ok()) << "nothing there is fine";
  EXPECT_THAT(NamesIn(folder_), ElementsAre("outside"));
  EXPECT_EQ(ReadTestFile(Path("outside/kept")), "x");
}

TEST_F(DurableFilesTest, ListFolderIsSortedAndComplete) {
  WriteTestFile(Path("b"), "");
  WriteTestFile(Path(".hidden"), "");
  WriteTestFile(Path("a"), "");
  EXPECT_THAT(ListFolder(folder_).value(), ElementsAre(".hidden", "a", "b"));
  ExpectError(ListFolder(Path("none")).status(), StatusCode::kNotFound, {Path("none")});
}

TEST_F(DurableFilesTest, IsFolderIsFalseForALinkToOne) {
  ASSERT_TRUE(MakeLink(folder_, Path("link")).ok());
  EXPECT_FALSE(IsFolder(Path("link")));
  EXPECT_FALSE(IsFolder(Path("none")));
}

TEST_F(DurableFilesTest, TouchAndFreeSpaceSayWhichPathFailed) {
  ExpectError(SetModifiedNow(Path("none")), StatusCode::kNotFound, {Path("none")});
  ExpectError(FreeBytes(Path("none")).status(), StatusCode::kNotFound, {Path("none")});
  EXPECT_GT(FreeBytes(folder_).value(), 0u);
}

}  // namespace
}  // namespace weightstream
