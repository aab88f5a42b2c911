#include "tensor/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(AtomicFile, AppearsWholeWhenPublished) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/f";
  const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(path, 6);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Write(3, "def").ok());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  ASSERT_TRUE((*file)->Write(0, "ab").ok());
  ASSERT_TRUE((*file)->Publish().ok());
  EXPECT_EQ(ReadTestFile(path), std::string("ab\0def", 6));
  EXPECT_THAT(NamesIn(folder), ElementsAre("f"));
}

TEST(AtomicFile, DestroyedBeforeItLeavesNothingBehind) {
  const std::string folder = MakeTestFolder();
  {
    const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(folder + "/f", 6);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Write(0, "abc").ok());
    ASSERT_EQ(NamesIn(folder).size(), 1u);
  }
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(AtomicFile, ReplacesAFileAndLeavesItAloneUntilThen) {
  const std::string path = MakeTestFolder() + "/f";
  WriteTestFile(path, "old");
  const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(path, 3);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Write(0, "new").ok());
  EXPECT_EQ(ReadTestFile(path), "old");
  ASSERT_TRUE((*file)->Publish().ok());
  EXPECT_EQ(ReadTestFile(path), "new");
}

TEST(SyncFolder, NamesTheFolderThatIsNotThere) {
  const std::string folder = MakeTestFolder();
  EXPECT_TRUE(SyncFolder(folder).ok());
  const absl::Status none = SyncFolder(folder + "/none");
  EXPECT_TRUE(absl::IsNotFound(none)) << none;
  EXPECT_NE(none.message().find(folder + "/none"), std::string::npos) << none;
}

TEST(AtomicFile, OthersMayReadItAsFarAsTheUmaskSays) {
  const std::string path = MakeTestFolder() + "/f";
  const mode_t old_umask = umask(022);
  const absl::Cleanup restore = [old_umask] { umask(old_umask); };
  const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(path, 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Publish().ok());
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0644u);
}

TEST(AtomicFile, NothingCanBeDoneAfterPublish) {
  const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(MakeTestFolder() + "/f", 1);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Publish().ok());
  EXPECT_EQ((*file)->Write(0, "a").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*file)->Publish().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(AtomicFile, AMissingFolderIsNotFoundAndNamed) {
  const std::string path = MakeTestFolder() + "/none/f";
  ExpectError(AtomicFile::Create(path, 1).status(), absl::StatusCode::kNotFound, {path});
}

TEST(AtomicFile, APathThatIsAFolderFailsAndLeavesNothingBehind) {
  const std::string folder = MakeTestFolder();
  ASSERT_EQ(mkdir((folder + "/f").c_str(), 0700), 0);
  {
    const absl::StatusOr<std::unique_ptr<AtomicFile>> file = AtomicFile::Create(folder + "/f", 1);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_FALSE((*file)->Publish().ok());
  }
  EXPECT_THAT(NamesIn(folder), ElementsAre("f"));
}

TEST(AtomicFile, TwoWritersOfOnePathDoNotMeet) {
  const std::string path = MakeTestFolder() + "/f";
  const absl::StatusOr<std::unique_ptr<AtomicFile>> first = AtomicFile::Create(path, 1);
  const absl::StatusOr<std::unique_ptr<AtomicFile>> second = AtomicFile::Create(path, 1);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE((*first)->Write(0, "1").ok());
  ASSERT_TRUE((*second)->Write(0, "2").ok());
  ASSERT_TRUE((*first)->Publish().ok());
  EXPECT_EQ(ReadTestFile(path), "1");
  ASSERT_TRUE((*second)->Publish().ok());
  EXPECT_EQ(ReadTestFile(path), "2");
}

TEST(WriteFully, AFullDiskIsResourceExhausted) {
  const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  ExpectError(WriteFully(fd, "some/path", 0, "abc"), absl::StatusCode::kResourceExhausted,
              {"some/path", "No space left"});
}

}  // namespace
}  // namespace weightstream
