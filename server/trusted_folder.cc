#include "server/trusted_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/folder_calls.h"

namespace weightstream {
namespace {

// As many as the kernel follows.
constexpr int kMostLinks = 40;
constexpr size_t kLongestLink = 4096;

bool IsOursOrRoots(const struct stat& info) { return info.st_uid == 0 || info.st_uid == ::geteuid(); }

bool OthersMayWrite(const struct stat& info) { return (info.st_mode & S_IWOTH) != 0; }

absl::Status OpenToEverybody(absl::string_view path, const struct stat& info, absl::string_view remedy) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "%s may be written by everybody (its mode is %04o), who could exchange the weights; chmod o-w it%s", path,
      info.st_mode & 07777, remedy));
}

absl::Status NotOurs(absl::string_view path, absl::string_view what, const struct stat& info,
                     absl::string_view remedy) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, " ", what, " user ", info.st_uid, " and not to root or to the user of this server, ",
                   ::geteuid(), ", and whoever it belongs to could exchange the weights; ", remedy));
}

// One way through the folders, link by link.
class Walk {
 public:
  explicit Walk(absl::string_view path) { Add(path); }

  absl::StatusOr<TrustedFolder> Run(const std::string& path);

 private:
  // Puts what a path or a link says before what is left to go.
  void Add(absl::string_view path);
  absl::Status Step(const std::string& name);
  absl::Status Enter(const std::string& name, FileDescriptor folder, const struct stat& info);
  absl::Status Follow(const std::string& name, const FileDescriptor& link, const struct stat& info);
  absl::Status MakeHere(const std::string& name);
  // The last component, which is the data directory, open for reading.
  absl::StatusOr<FileDescriptor> OpenReached() const;

  std::string PathHere() const { return real_.empty() ? "." : real_; }
  std::string PathOf(const std::string& name) const {
    return real_.empty() || real_ == "/" ? absl::StrCat(real_, name) : absl::StrCat(real_, "/", name);
  }

  std::deque<std::string> left_;
  // Whether what is left starts at the root.
  bool from_root_ = false;
  // The folder reached, with O_PATH; its path, without a link; and its attributes.
  FileDescriptor at_;
  std::string real_;
  struct stat info_ {};
  int links_ = 0;
  bool ends_in_link_ = false;
};

void Walk::Add(absl::string_view path) {
  const std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  left_.insert(left_.begin(), parts.begin(), parts.end());
  from_root_ = !path.empty() && path.front() == '/';
}

absl::StatusOr<TrustedFolder> Walk::Run(const std::string& path) {
  do {
    if (!at_.valid() || from_root_) {
      real_.assign(from_root_ ? 1 : 0, '/');
      at_ = FileDescriptor(::open(from_root_ ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!at_.valid() || ::fstat(at_.get(), &info_) != 0) return ErrnoStatus(errno, "cannot open folder", PathHere());
      from_root_ = false;
    }
    if (left_.empty()) break;
    const std::string name = std::move(left_.front());
    left_.pop_front();
    if (absl::Status stepped = Step(name); !stepped.ok()) return stepped;
  } while (!left_.empty() || from_root_);
  absl::StatusOr<FileDescriptor> reached = OpenReached();
  if (!reached.ok()) return reached.status();
  return TrustedFolder{*std::move(reached),
                       ends_in_link_ ? std::filesystem::path(real_).lexically_normal().string() : path};
}

absl::Status Walk::Step(const std::string& name) {
  constexpr int kFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  FileDescriptor next(::openat(at_.get(), name.c_str(), kFlags));
  if (!next.valid() && errno == ENOENT) {
    if (absl::Status made = MakeHere(name); !made.ok()) return made;
    // Looked at like any other: somebody may have been quicker.
    next = FileDescriptor(::openat(at_.get(), name.c_str(), kFlags));
  }
  struct stat info {};
  if (!next.valid() || ::fstat(next.get(), &info) != 0) return ErrnoStatus(errno, "cannot open folder", PathOf(name));
  if (S_ISLNK(info.st_mode)) return Follow(name, next, info);
  if (S_ISDIR(info.st_mode)) return Enter(name, std::move(next), info);
  return absl::FailedPreconditionError(absl::StrCat(PathOf(name), " exists and is not a folder"));
}

absl::Status Walk::MakeHere(const std::string& name) {
  const FileDescriptor parent(::openat(at_.get(), ".", kFolderFlags));
  if (!parent.valid()) return ErrnoStatus(errno, "cannot open folder", PathHere());
  return MakeAndOpenFolder(parent.get(), name, PathOf(name)).status();
}

absl::Status Walk::Enter(const std::string& name, FileDescriptor folder, const struct stat& info) {
  // The folder above has its place whatever is in this one.
  if (name != ".." && OthersMayWrite(info_)) {
    const bool exchangeable = info_.st_uid != 0 && (info_.st_mode & S_ISVTX) == 0;
    if (exchangeable) return OpenToEverybody(PathHere(), info_, "");
    if (!IsOursOrRoots(info))
      return NotOurs(PathOf(name), "lies where everybody may put one, and belongs to", info,
                     "find out whose it is and remove it");
  }
  real_ = PathOf(name);
  at_ = std::move(folder);
  info_ = info;
  return absl::OkStatus();
}

absl::Status Walk::Follow(const std::string& name, const FileDescriptor& link, const struct stat& info) {
  const std::string path = PathOf(name);
  if (!IsOursOrRoots(info)) {
    return NotOurs(path, "is a symbolic link that belongs to", info,
                   "chown -h it if it is yours, or give the folder that it leads to");
  }
  if (++links_ > kMostLinks) return ErrnoStatus(ELOOP, "cannot follow", path);
  char target[kLongestLink];
  const ssize_t length = ::readlinkat(link.get(), "", target, sizeof(target));
  if (length < 0) return ErrnoStatus(errno, "cannot follow", path);
  ends_in_link_ = ends_in_link_ || left_.empty();
  Add(absl::string_view(target, static_cast<size_t>(length)));
  return absl::OkStatus();
}

absl::StatusOr<FileDescriptor> Walk::OpenReached() const {
  if (!IsOursOrRoots(info_)) {
    return NotOurs(PathHere(), "belongs to", info_,
                   "chown it to the server's user, or start the server as its owner, if the folder is yours");
  }
  if (OthersMayWrite(info_)) {
    return OpenToEverybody(PathHere(), info_, ", or give a folder in it, which the server makes for itself");
  }
  FileDescriptor folder(::openat(at_.get(), ".", kFolderFlags));
  if (!folder.valid()) return ErrnoStatus(errno, "cannot open folder", PathHere());
  return folder;
}

}  // namespace

absl::StatusOr<TrustedFolder> MakeAndOpenTrusted(const std::string& path) { return Walk(path).Run(path); }

}  // namespace weightstream
