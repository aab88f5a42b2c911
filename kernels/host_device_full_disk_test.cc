// A file system that is really full: a small tmpfs, mounted where nobody else sees it.
#include <errno.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "kernels/device_testing.h"
#include "kernels/host_device.h"

namespace weightstream {
namespace {

constexpr uint64_t kDiskBytes = 40 << 20;

// Mounts a tmpfs of kDiskBytes at `folder`, in a mount namespace of this process. 0 or an errno value.
int MountSmallDisk(const std::string& folder) {
  // Root needs no user namespace; others may mount only in one of their own.
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return errno;
  // Or the mount would be seen outside.
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno;
  const std::string options = "size=" + std::to_string(kDiskBytes);
  return mount("weightstream-test", folder.c_str(), "tmpfs", 0, options.c_str()) == 0 ? 0 : errno;
}

class FullDiskTest : public testing::TestWithParam<bool> {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::TempDir() + "/small-disk";
    mkdir(folder_.c_str(), 0700);
    mount_error_ = MountSmallDisk(folder_);
  }

  void SetUp() override {
    if (mount_error_ != 0) GTEST_SKIP() << "this sandbox lets nobody mount: " << strerror(mount_error_);
  }

  static inline std::string folder_;
  static inline int mount_error_ = 0;
};

TEST_P(FullDiskTest, PrepareFailsCleanlyAndSucceedsOnceThereIsRoom) {
  std::unique_ptr<Device> device = NewHostDevice({.huge_pages = GetParam()});
  const TargetFile file(folder_);
  auto other_file = std::make_unique<TargetFile>(folder_);
  other_file->Write(std::string(30 << 20, 'w'));

  auto target = device->CreateTarget({.bytes = 20 << 20, .path = file.path(), .start_in_file = 4'096});
  ASSERT_TRUE(target.ok()) << target.status();
  const ByteRange all{0, (*target)->bytes()};
  const absl::Status full = (*target)->Prepare(all);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_NE(full.message().find("no room for"), absl::string_view::npos) << full;
  EXPECT_NE(full.message().find(file.path()), absl::string_view::npos) << full;

  // A copy is refused: a store into the mapping would end the process.
  const std::string bytes = RandomBytes(all.end, 1);
  CopyResults refused;
  device->CopyToTarget({bytes.data(), bytes.size()}, **target, 0, refused.Expect());
  EXPECT_EQ(refused.Wait().code(), absl::StatusCode::kInternal);

  other_file.reset();
  ASSERT_EQ((*target)->Prepare(all), absl::OkStatus());
  // Now even the last byte of the medium may go: what is prepared stays writable.
  const TargetFile greedy(folder_);
  auto rest = device->CreateTarget({.bytes = kDiskBytes, .path = greedy.path()});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ((*rest)->Prepare({0, kDiskBytes}).code(), absl::StatusCode::kResourceExhausted);

  CopyResults results;
  device->CopyToTarget({bytes.data(), bytes.size()}, **target, 0, results.Expect());
  ASSERT_EQ(results.Wait(), absl::OkStatus());
  EXPECT_TRUE(file.Read().substr(4'096) == bytes);
}

INSTANTIATE_TEST_SUITE_P(Pages, FullDiskTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Huge" : "Small"; });

}  // namespace
}  // namespace weightstream
