// How a client proves that a server is the right one, and who it is itself. No gRPC types.
#ifndef WEIGHTSTREAM_CLIENT_SECURITY_H_
#define WEIGHTSTREAM_CLIENT_SECURITY_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// The default is plaintext without a token. Paths of files; the certificates are read when an operation (a push, a
// pull) begins, the token for each call, so that one that is replaced meanwhile is used.
struct Security {
  // TLS. Naming a file or a name below means it, too. Without tls_ca the system's CAs are trusted.
  bool tls = false;
  // PEM: the CAs of which the server must have a certificate.
  std::string tls_ca{};
  // PEM: the client's own certificate chain and key, for servers with mutual TLS. Both or neither.
  std::string tls_cert{};
  std::string tls_key{};
  // The name that the server's certificate must have; empty is the one in the address.
  std::string tls_server_name{};
  // The same by address, for servers whose addresses were looked up (fleet.h): their certificates are for the name.
  // Where tls_server_name is given, that holds. Does not mean TLS by itself.
  std::map<std::string, std::string> tls_names{};
  // The bearer token that goes with each call; empty is none.
  std::string auth_token_file{};
  // Sends the token also in plaintext over TCP, where others may read it.
  bool allow_plaintext_token = false;

  bool uses_tls() const { return tls || !tls_ca.empty() || !tls_cert.empty() || !tls_server_name.empty(); }
};

// INVALID_ARGUMENT for a certificate without its key, and for a token that would go to `address` in plaintext over TCP,
// loopback included: whoever on the host takes the port while the server is down would be sent it. Unix sockets have
// owners, and are let pass.
absl::Status ValidateSecurity(const Security& security, absl::string_view address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_SECURITY_H_
