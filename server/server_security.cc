#include "server/server_security.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

absl::StatusOr<std::unique_ptr<ServerSecurity>> ServerSecurity::Load(const std::string& address,
                                                                     const SecurityOptions& options) {
  if (absl::Status exposed = CheckExposure(address, options); !exposed.ok()) return exposed;
  std::unique_ptr<ServerSecurity> security(new ServerSecurity());
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
  return security;
}

std::shared_ptr<grpc::ServerCredentials> ServerSecurity::credentials() {
  return tls_ != nullptr ? tls_->grpc_credentials() : grpc::InsecureServerCredentials();
}

void ServerSecurity::Reload() {
  if (tls_ != nullptr) tls_->Reload();
  if (authorizer_ != nullptr) authorizer_->Reload();
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
