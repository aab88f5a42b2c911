#include "server/exposure.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/loopback.h"
#include "server/host_port.h"

namespace weightstream {
namespace {

bool IsUnix(absl::string_view address) { return absl::StartsWith(address, "unix:"); }

absl::Status CheckPairs(const SecurityOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key belong together: give both, or neither");
  }
  if (!options.tls_client_ca.empty() && !options.tls()) {
    return absl::InvalidArgumentError(
        "--tls-client-ca asks clients for certificates, which only TLS can: give --tls-cert and --tls-key as well");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsLoopback(absl::string_view address) {
  const absl::optional<HostPort> parsed = ParseHostPort(address);
  return parsed.has_value() && IsLoopbackHost(parsed->host);
}

absl::Status CheckExposure(const std::string& address, const SecurityOptions& options) {
  if (const absl::Status pairs = CheckPairs(options); !pairs.ok()) return pairs;
  if (options.tls() || IsUnix(address)) return absl::OkStatus();
  // On loopback as well: whoever on the host takes the port while the server is down is sent the tokens.
  if (!options.auth_token_file.empty() && !options.allow_plaintext_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--auth-token-file with --listen=", address,
                     " would have tokens sent in plaintext; give --tls-cert and --tls-key, or listen on a unix socket "
                     "(--listen=unix:/PATH), or say --allow-plaintext-tokens"));
  }
  if (IsLoopback(address) || options.allow_plaintext) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--listen=", address,
                   " can be reached from other hosts, and without TLS whoever reaches it could read and replace the "
                   "weights; give --tls-cert and --tls-key, or listen on 127.0.0.1, [::1], localhost or unix:/PATH, or "
                   "say --allow-plaintext where the network is trusted"));
}

absl::Status CheckMetricsExposure(const std::string& address, const SecurityOptions& options) {
  if (address.empty() || IsLoopback(address) || options.allow_plaintext_metrics) return absl::OkStatus();
  // What is no address at all is for whoever listens to say.
  if (!ParseHostPort(address).has_value() || address.front() == ':') return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--metrics-listen=", address,
                   " can be reached from other hosts, and whoever reaches it can read the names, sizes and rates of "
                   "all models; listen on 127.0.0.1, [::1] or localhost, or say --allow-plaintext-metrics where only "
                   "Prometheus reaches it"));
}

}  // namespace weightstream
