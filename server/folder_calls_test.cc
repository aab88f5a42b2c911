#include "server/folder_calls.h"

#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::EndsWith;

struct Failure {
  int error;
  StatusCode code;
  std::string words;
  std::string remedy;
};

TEST(FolderCallsTest, EveryErrorThatAnOperatorCanMendSaysHow) {
  const Failure failures[] = {
      {ENOSPC, StatusCode::kResourceExhausted, "No space left on device", "keep fewer versions"},
      {EDQUOT, StatusCode::kResourceExhausted, "Disk quota exceeded", "keep fewer versions"},
      {EACCES, StatusCode::kPermissionDenied, "Permission denied", absl::StrCat("let uid ", geteuid())},
      {EPERM, StatusCode::kPermissionDenied, "Operation not permitted", "chown"},
      {EROFS, StatusCode::kPermissionDenied, "Read-only file system", "mount it to be written to"},
      {EMFILE, StatusCode::kResourceExhausted, "Too many open files", "ulimit -n"},
      {ENFILE, StatusCode::kResourceExhausted, "Too many open files in system", "fs.file-max"},
      {EIO, StatusCode::kUnknown, "Input/output error", "the kernel's log"},
      {ENAMETOOLONG, StatusCode::kInvalidArgument, "File name too long", "a shorter path"},
      {ENOENT, StatusCode::kNotFound, "No such file or directory", "make it"},
  };
  for (const Failure& failure : failures) {
    ExpectError(ErrnoStatus(failure.error, "cannot open folder", "/data/m"), failure.code,
                {absl::StrCat("cannot open folder /data/m: ", failure.words, "; "), failure.remedy});
  }
}

TEST(FolderCallsTest, AnErrorWithoutARemedyEndsWithWhatTheSystemSays) {
  const absl::Status status = ErrnoStatus(EXDEV, "cannot rename a to", "b");
  EXPECT_THAT(std::string(status.message()), EndsWith("cannot rename a to b: Invalid cross-device link"));
}

}  // namespace
}  // namespace weightstream
