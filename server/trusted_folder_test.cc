#include "server/trusted_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;

// Another user of the host.
constexpr uid_t kStranger = 1234;

class TrustedFolderTest : public testing::Test {
 protected:
  std::string Path(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

  std::string Folder(absl::string_view name, mode_t mode) const {
    const std::string path = Path(name);
    fs::create_directories(path);
    EXPECT_EQ(chmod(path.c_str(), mode), 0) << path;
    return path;
  }

  static absl::Status Open(const std::string& path) { return MakeAndOpenTrusted(path).status(); }

  static void ExpectRefused(const std::string& path, const std::vector<std::string>& parts) {
    ExpectError(Open(path), StatusCode::kFailedPrecondition, parts);
  }

  // As errors write it, without // in it.
  const std::string path_ = fs::path(MakeTestFolder()).lexically_normal().string();
};

// What a stranger has put there, which takes root to set up.
class StrangersFolderTest : public TrustedFolderTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root can make what belongs to another user";
    const std::string probe = Folder("probe", 0755);
    if (lchown(probe.c_str(), kStranger, kStranger) != 0)
      GTEST_SKIP() << "this process is alone in its user namespace: there is no other user to try";
  }

  static void GiveAway(const std::string& path) { ASSERT_EQ(lchown(path.c_str(), kStranger, kStranger), 0) << path; }
};

bool SameFile(const FileDescriptor& fd, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return fstat(fd.get(), &opened) == 0 && stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

TEST_F(TrustedFolderTest, WhatIsMissingIsMadeAndOpenedForReading) {
  const absl::StatusOr<TrustedFolder> made = MakeAndOpenTrusted(Path("a/b/c/"));
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->path, Path("a/b/c/")) << "as it was given";
  EXPECT_TRUE(SameFile(made->fd, Path("a/b/c")));
  EXPECT_EQ(fsync(made->fd.get()), 0) << "O_PATH could not";
  EXPECT_TRUE(SameFile(MakeAndOpenTrusted(Path("a/./b//../b/c")).value().fd, Path("a/b/c")));
}

TEST_F(TrustedFolderTest, ARelativePathStartsAtTheWorkingDirectory) {
  const fs::path before = fs::current_path();
  fs::current_path(path_);
  const absl::StatusOr<TrustedFolder> below = MakeAndOpenTrusted("x/y");
  const absl::StatusOr<TrustedFolder> here = MakeAndOpenTrusted(".");
  fs::create_directory_symlink("x/y", "link");
  const absl::StatusOr<TrustedFolder> link = MakeAndOpenTrusted("link");
  fs::current_path(before);
  ASSERT_TRUE(below.ok() && here.ok() && link.ok()) << below.status() << here.status() << link.status();
  EXPECT_TRUE(SameFile(below->fd, Path("x/y")));
  EXPECT_TRUE(SameFile(here->fd, path_));
  EXPECT_TRUE(SameFile(link->fd, Path("x/y")));
  EXPECT_EQ(link->path, "x/y");
}

TEST_F(TrustedFolderTest, LinksOfOursAreFollowedAndTheLastOneNamed) {
  Folder("real/data", 0750);
  fs::create_directory_symlink("real", Path("relative"));
  fs::create_directory_symlink(Path("relative/data"), Path("absolute"));
  fs::create_directory_symlink("../real/../absolute", Path("real/chain"));
  for (const char* name : {"relative/data", "absolute", "real/chain"}) {
    const absl::StatusOr<TrustedFolder> opened = MakeAndOpenTrusted(Path(name));
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_TRUE(SameFile(opened->fd, Path("real/data"))) << name;
  }
  EXPECT_EQ(MakeAndOpenTrusted(Path("relative/data"))->path, Path("relative/data")) << "a mount may be named so";
  EXPECT_EQ(MakeAndOpenTrusted(Path("absolute"))->path, Path("real/data"));
  EXPECT_EQ(MakeAndOpenTrusted(Path("real/chain"))->path, Path("real/data"));
}

TEST_F(TrustedFolderTest, ALinkThatGoesInCirclesIsAnError) {
  fs::create_directory_symlink("circle", Path("circle"));
  const absl::Status status = Open(Path("circle"));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(Path("circle")));
}

TEST_F(TrustedFolderTest, WhereEverybodyMayWriteIsNoDataDirectory) {
  for (const mode_t mode : {0777, 0757, 01777, 0702}) {
    ExpectRefused(Folder("open", mode), {Path("open"), absl::StrFormat("%04o", mode), "chmod o-w"});
  }
  EXPECT_TRUE(Open(Folder("open", 0775)).ok());
}

TEST_F(TrustedFolderTest, TheGroupMayWriteAsTheOperatorChooses) {
  EXPECT_TRUE(Open(Folder("group", 0770)).ok());
  EXPECT_TRUE(Open(Folder("group", 02775)).ok());
  EXPECT_TRUE(Open(Folder("readable", 0755)).ok());
}

TEST_F(TrustedFolderTest, BelowTheSharedFolderOfAHostOursIsFine) {
  Folder("shm", 01777);
  EXPECT_TRUE(Open(Path("shm/weightstream")).ok()) << "made";
  EXPECT_TRUE(Open(Path("shm/weightstream")).ok()) << "and there";
  EXPECT_TRUE(Open(Path("shm/weightstream/models")).ok());
}

TEST_F(StrangersFolderTest, AnEmptyDirOfKubernetesHasTheDataDirectoryBelowIt) {
  // Root's, whoever runs in the pod, and not sticky; with an fsGroup the set-group-ID bit is there too.
  for (const mode_t mode : {0777, 02777}) {
    const std::string name = absl::StrCat("empty-dir-", mode);
    const std::string folder = Folder(name, mode);
    EXPECT_TRUE(Open(Path(name + "/models")).ok());
    ExpectRefused(folder, {folder, "give a folder in it"});
  }
}

TEST_F(StrangersFolderTest, AFolderThatAStrangerMadeFirstIsRefused) {
  Folder("shm", 01777);
  for (const mode_t mode : {0777, 0755, 0700}) {
    const std::string made = Folder("shm/weightstream", mode);
    GiveAway(made);
    ExpectRefused(made, {made, "belongs to user 1234", "remove it"});
    ExpectRefused(made + "/models", {made, "belongs to user 1234"});
    EXPECT_TRUE(NamesIn(made).empty()) << "nothing is made in it";
  }
}

TEST_F(StrangersFolderTest, AStrangersFolderIsNoDataDirectoryWhereverItLies) {
  GiveAway(Folder("theirs", 0755));
  ExpectRefused(Path("theirs"), {Path("theirs"), "belongs to user 1234", "chown"});
  EXPECT_TRUE(Open(Path("theirs/data")).ok()) << "in a place that the operator gave them";
}

TEST_F(StrangersFolderTest, AFolderOnTheWayWhereAnyoneCanRenameOursIsRefused) {
  GiveAway(Folder("theirs", 0777));
  ExpectRefused(Path("theirs/data"), {Path("theirs") + " may be written by everybody", "chmod o-w"});
  Folder("theirs", 01777);
  EXPECT_TRUE(Open(Path("theirs/data")).ok()) << "the sticky bit keeps others off";
}

TEST_F(StrangersFolderTest, AStrangersLinkIsNotFollowed) {
  Folder("real", 0750);
  fs::create_directory_symlink("real", Path("link"));
  EXPECT_TRUE(Open(Path("link")).ok());
  GiveAway(Path("link"));
  ExpectRefused(Path("link"), {Path("link"), "symbolic link that belongs to user 1234", "chown -h"});
  ExpectRefused(Path("link/below"), {Path("link"), "symbolic link that belongs to user 1234"});
  EXPECT_TRUE(NamesIn(Path("real")).empty());
}

TEST_F(StrangersFolderTest, WhatALinkLeadsToIsLookedAtToo) {
  GiveAway(Folder("theirs", 0755));
  fs::create_directory_symlink("theirs", Path("link"));
  ExpectRefused(Path("link"), {Path("theirs"), "belongs to user 1234"});
}

}  // namespace
}  // namespace weightstream
