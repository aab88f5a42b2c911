// Opens the data directory, if nobody but its operator can have put it there.
//
// The default lies in /dev/shm, where every user of the host may make a folder. Whoever owns the data directory, or may
// write into it, can rename a model away and put another in its place, and an inference server that follows
// MODEL/current loads that. So, with "we" for the user that this process runs as:
//
// - The data directory belongs to us or to root, and others (the last digit of its mode) may not write into it. Its
//   group may: that is how an operator lets an inference server's user in, or Kubernetes a pod's (fsGroup).
// - A folder on the way, where it lies in one that everybody may write into (/dev/shm, /tmp), belongs to us or to root.
//   Elsewhere its place is decided by whoever owns what is above it.
// - Where everybody may write into a folder on the way, it has the sticky bit, as those two, so that nobody can rename
//   what is another's; or it is root's.
// - A symbolic link in the path is followed where it belongs to us or to root.
//
// "Or it is root's" is for Kubernetes, which makes an emptyDir so (0777, not sticky), and nobody else is in the pod.
// The data directory there is a folder below it, which we make, and not the emptyDir itself.
//
// What is looked at is what is opened: each component from the one before, by descriptor, so that nothing can be
// exchanged in between.
#ifndef WEIGHTSTREAM_SERVER_TRUSTED_FOLDER_H_
#define WEIGHTSTREAM_SERVER_TRUSTED_FOLDER_H_

#include <string>

#include "absl/status/statusor.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

struct TrustedFolder {
  FileDescriptor fd;
  // As it was given; where its last component is a link, what that leads to.
  std::string path;
};

// Makes the folder, and those above it, where missing: 0750, whatever the umask. FAILED_PRECONDITION names what is not
// to be trusted, whose it is, and the remedy.
absl::StatusOr<TrustedFolder> MakeAndOpenTrusted(const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TRUSTED_FOLDER_H_
