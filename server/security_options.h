// What a server is told about security: by flags, or by who starts it in a process of its own.
#ifndef WEIGHTSTREAM_SERVER_SECURITY_OPTIONS_H_
#define WEIGHTSTREAM_SERVER_SECURITY_OPTIONS_H_

#include <string>

namespace weightstream {

// Paths of files; all are read again while the server runs, so that they can be replaced without a restart.
struct SecurityOptions {
  // PEM: the server's certificate chain and its key. Both or neither; without them it speaks plaintext.
  std::string tls_cert{};
  std::string tls_key{};
  // PEM: the CAs of which each client must have a certificate. Empty asks for none.
  std::string tls_client_ca{};
  // Who may do what: see access_rules.h. Empty lets everybody who can connect do everything.
  std::string auth_token_file{};
  // Plaintext on an address that other hosts may reach.
  bool allow_plaintext = false;
  // Tokens in plaintext over TCP.
  bool allow_plaintext_tokens = false;
  // Metrics, which are plain HTTP, on an address that other hosts may reach.
  bool allow_plaintext_metrics = false;

  bool tls() const { return !tls_cert.empty(); }
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SECURITY_OPTIONS_H_
