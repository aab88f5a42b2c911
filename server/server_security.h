// The security of one server: its credentials, its rules, and their renewal. What server.cc needs to know of it.
#ifndef WEIGHTSTREAM_SERVER_SERVER_SECURITY_H_
#define WEIGHTSTREAM_SERVER_SERVER_SECURITY_H_

#include <grpcpp/security/server_credentials.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/authorizer.h"
#include "server/security_options.h"
#include "server/tls_credentials.h"

namespace weightstream {

// Thread-safe. Must outlive the gRPC server.
class ServerSecurity {
 public:
  // Reads every file that the options name. INVALID_ARGUMENT as CheckExposure; FAILED_PRECONDITION for a file that is
  // not sound.
  static absl::StatusOr<std::unique_ptr<ServerSecurity>> Load(const std::string& address,
                                                              const SecurityOptions& options);

  std::shared_ptr<grpc::ServerCredentials> credentials();

  // Null where everybody may do everything.
  const Authorizer* authorizer() const { return authorizer_.get(); }

  // Reads the files again, and uses those that changed, are sound, and were the same at the call before: none is taken
  // while it is being written. Their content is compared, some kilobytes, not their times: so it does not matter how
  // they are replaced. To be called about once a second.
  void Reload() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A file that others of the host should not get at.
  struct Guarded {
    std::string path;
    // What they must not be able to do: S_IROTH, S_IWOTH.
    mode_t forbidden = 0;
    // What they could at the last look.
    mode_t open = 0;
  };

  explicit ServerSecurity(const SecurityOptions& options);

  // Says in the log that others may read or write such a file, once each time that it becomes so.
  void WarnOfOpenFiles() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::vector<Guarded> guarded_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<TlsCredentials> tls_;
  std::unique_ptr<Authorizer> authorizer_;
};

// While it lives, the sockets that the process makes are for the owner and the group only; other files are not touched
// by it unless their mode lets others in. A unix socket's mode is set as it is bound.
class UnixSocketMask {
 public:
  UnixSocketMask();
  ~UnixSocketMask();
  UnixSocketMask(const UnixSocketMask&) = delete;
  UnixSocketMask& operator=(const UnixSocketMask&) = delete;

 private:
  const unsigned int before_;
};

// Sets the mode of a listening unix socket to 0660, whatever the process's umask; other addresses are left alone.
absl::Status RestrictUnixSocket(const std::string& address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SERVER_SECURITY_H_
