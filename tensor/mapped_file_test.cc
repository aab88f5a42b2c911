#include "tensor/mapped_file.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

// While it lives, this thread may read only what the file's mode allows, as root too.
class WithoutFileCapabilities {
 public:
  WithoutFileCapabilities() {
    EXPECT_EQ(syscall(SYS_capget, &header_, held_), 0);
    __user_cap_data_struct fewer[2] = {held_[0], held_[1]};
    fewer[0].effective &= ~(1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH);
    EXPECT_EQ(syscall(SYS_capset, &header_, fewer), 0);
  }
  ~WithoutFileCapabilities() { EXPECT_EQ(syscall(SYS_capset, &header_, held_), 0); }
  WithoutFileCapabilities(const WithoutFileCapabilities&) = delete;
  WithoutFileCapabilities& operator=(const WithoutFileCapabilities&) = delete;

 private:
  __user_cap_header_struct header_ = {_LINUX_CAPABILITY_VERSION_3, /*pid=*/0};
  __user_cap_data_struct held_[2] = {};
};

TEST(MappedFile, ShowsTheFilesBytesAndIdentity) {
  const std::string path = MakeTestFolder() + "/f";
  const std::string bytes = std::string(10000, 'a') + std::string("\0z", 2);
  WriteTestFile(path, bytes);
  const absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->bytes() == bytes);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ((*file)->identity().bytes, bytes.size());
  EXPECT_EQ((*file)->identity().inode, info.st_ino);
  EXPECT_EQ((*file)->identity().device, info.st_dev);
  EXPECT_EQ((*file)->identity().modified_ns, info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec);
}

TEST(MappedFile, AnEmptyFileIsAnEmptyView) {
  const std::string path = MakeTestFolder() + "/f";
  WriteTestFile(path, "");
  const absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->bytes().empty());
}

TEST(MappedFile, StaysOnTheFileThatWasOpened) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/f", "old");
  WriteTestFile(folder + "/new", "new");
  const absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(folder + "/f");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(rename((folder + "/new").c_str(), (folder + "/f").c_str()), 0);
  EXPECT_EQ((*file)->bytes(), "old");
}

TEST(MappedFile, FollowsSymbolicLinks) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/f", "abc");
  ASSERT_EQ(symlink("f", (folder + "/link").c_str()), 0);
  const absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(folder + "/link");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), "abc");
}

TEST(MappedFile, ErrorsNameThePath) {
  const std::string folder = MakeTestFolder();
  ExpectError(MappedFile::Open(folder + "/none").status(), absl::StatusCode::kNotFound, {folder + "/none"});
  ExpectError(MappedFile::Open(folder).status(), absl::StatusCode::kInvalidArgument, {folder, "folder"});
  ExpectError(MappedFile::Open("/dev/null").status(), absl::StatusCode::kInvalidArgument, {"/dev/null"});
}

TEST(MappedFile, APipeWithoutAWriterIsRefusedAtOnce) {
  const std::string path = MakeTestFolder() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  ExpectError(MappedFile::Open(path).status(), absl::StatusCode::kInvalidArgument, {path, "not a regular file"});
}

TEST(MappedFile, AFileThatMayNotBeReadIsPermissionDenied) {
  const WithoutFileCapabilities limited;
  const std::string path = MakeTestFolder() + "/f";
  WriteTestFile(path, "abc");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  ExpectError(MappedFile::Open(path).status(), absl::StatusCode::kPermissionDenied, {path});
}

}  // namespace
}  // namespace weightstream
