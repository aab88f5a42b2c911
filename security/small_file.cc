#include "security/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

// Chains of certificates and lists of tokens are kilobytes; the system's whole list of CAs is 220 KiB.
constexpr size_t kMostBytes = 1 << 20;

std::string ErrorText(int error) { return std::error_code(error, std::generic_category()).message(); }

}  // namespace

absl::Status FileError(absl::string_view flag, const std::string& path, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("--", flag, "=", path, ": ", what));
}

absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path, absl::string_view what) {
  const std::string remedy = absl::StrCat("; give ", what, " that this process may read");
  // O_NONBLOCK: to open a pipe must not wait for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(flag, path, absl::StrCat("cannot be opened: ", ErrorText(errno), remedy));
  const absl::Cleanup close = [fd] { ::close(fd); };
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return FileError(flag, path, absl::StrCat("is no regular file", remedy));
  }
  std::string text;
  char block[4096];
  for (;;) {
    const ssize_t got = ::read(fd, block, sizeof(block));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(flag, path, absl::StrCat("cannot be read: ", ErrorText(errno), remedy));
    if (got == 0) break;
    text.append(block, static_cast<size_t>(got));
    if (text.size() > kMostBytes) return FileError(flag, path, absl::StrCat("is larger than 1 MiB", remedy));
  }
  if (text.empty()) return FileError(flag, path, absl::StrCat("is empty", remedy));
  return text;
}

mode_t RightsOfOthers(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & (S_IROTH | S_IWOTH) : 0;
}

}  // namespace weightstream
