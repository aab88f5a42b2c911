#include "client/security.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensor/text.h"

namespace weightstream {

absl::Status ValidateSecurity(const Security& security, absl::string_view address) {
  if (security.tls_cert.empty() != security.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "a client certificate and its key belong together: give --tls-cert and --tls-key");
  }
  if (security.auth_token_file.empty() || security.uses_tls() || security.allow_plaintext_token ||
      absl::StartsWith(address, "unix:")) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the token would go to ", Printable(address),
                   " in plaintext; give --tls-ca (or --tls, for the system's CAs), use a unix socket, or say "
                   "--allow-plaintext-token"));
}

}  // namespace weightstream
