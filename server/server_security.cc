#include "server/server_security.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "security/small_file.h"
#include "server/exposure.h"
#include "server/log.h"

namespace weightstream {
namespace {

constexpr char kUnixPrefix[] = "unix:";
constexpr mode_t kSocketMode = 0660;
constexpr mode_t kOthers = 0007;

void WarnOfPlaintext(const std::string& address, const SecurityOptions& options) {
  if (options.tls() || absl::StartsWith(address, kUnixPrefix) || IsLoopback(address)) return;
  LogWarning("plaintext", {{"address", address},
                           {"note", "whoever is between the hosts can read and change what is sent (--tls-cert)"}});
}

}  // namespace

ServerSecurity::ServerSecurity(const SecurityOptions& options) {
  constexpr mode_t kReadOrWrite = S_IROTH | S_IWOTH;
  // Who can write the CAs admits whom they like, and all the world has them to read.
  for (Guarded file : {Guarded{options.tls_key, kReadOrWrite}, Guarded{options.auth_token_file, kReadOrWrite},
                       Guarded{options.tls_client_ca, S_IWOTH}}) {
    if (!file.path.empty()) guarded_.push_back(std::move(file));
  }
}

void ServerSecurity::WarnOfOpenFiles() {
  std::vector<Guarded> newly_open;
  {
    absl::MutexLock lock(&mutex_);
    for (Guarded& file : guarded_) {
      const mode_t open = RightsOfOthers(file.path) & file.forbidden;
      if (std::exchange(file.open, open) != open && open != 0) newly_open.push_back(file);
    }
  }
  for (const Guarded& file : newly_open) {
    LogWarning("secret_open_to_others", {{"file", file.path},
                                         {"others_may", (file.open & S_IWOTH) == 0   ? "read"
                                                        : (file.open & S_IROTH) == 0 ? "write"
                                                                                     : "read and write"},
                                         {"note", "every user of this host; chmod o-rwx it"}});
  }
}

absl::StatusOr<std::unique_ptr<ServerSecurity>> ServerSecurity::Load(const std::string& address,
                                                                     const SecurityOptions& options) {
  if (absl::Status exposed = CheckExposure(address, options); !exposed.ok()) return exposed;
  std::unique_ptr<ServerSecurity> security(new ServerSecurity(options));
  if (options.tls()) {
    absl::StatusOr<std::unique_ptr<TlsCredentials>> tls = TlsCredentials::Load(options);
    if (!tls.ok()) return tls.status();
    security->tls_ = *std::move(tls);
  }
  if (!options.auth_token_file.empty()) {
    absl::StatusOr<std::unique_ptr<Authorizer>> authorizer = Authorizer::Load(options.auth_token_file);
    if (!authorizer.ok()) return authorizer.status();
    security->authorizer_ = *std::move(authorizer);
  }
  WarnOfPlaintext(address, options);
  security->WarnOfOpenFiles();
  return security;
}

std::shared_ptr<grpc::ServerCredentials> ServerSecurity::credentials() {
  return tls_ != nullptr ? tls_->grpc_credentials() : grpc::InsecureServerCredentials();
}

void ServerSecurity::Reload() {
  if (tls_ != nullptr) tls_->Reload();
  if (authorizer_ != nullptr) authorizer_->Reload();
  WarnOfOpenFiles();
}

UnixSocketMask::UnixSocketMask() : before_(::umask(kOthers)) {
  // Never less than what the process had.
  ::umask(static_cast<mode_t>(before_) | kOthers);
}

UnixSocketMask::~UnixSocketMask() { ::umask(static_cast<mode_t>(before_)); }

absl::Status RestrictUnixSocket(const std::string& address) {
  if (!absl::StartsWith(address, kUnixPrefix)) return absl::OkStatus();
  const std::string path = address.substr(sizeof(kUnixPrefix) - 1);
  if (::chmod(path.c_str(), kSocketMode) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot set the mode of the socket ", path,
                                                 "; choose a path on another file system with --listen"));
}

}  // namespace weightstream
