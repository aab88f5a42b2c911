// The PEM files of TLS, read and checked before gRPC gets them: gRPC says of a bad one only that something failed.
#ifndef WEIGHTSTREAM_SECURITY_PEM_FILES_H_
#define WEIGHTSTREAM_SECURITY_PEM_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightstream {

// A certificate chain, leaf first, and its private key.
struct KeyPair {
  std::string certificates_pem;
  std::string key_pem;
  // When the leaf expires.
  absl::Time expires;
};

// Both files; FAILED_PRECONDITION, naming flag, file and remedy, where one cannot be read or parsed, where the key has
// a passphrase, and where the key is not the certificate's. Flags are named without dashes. Any thread.
absl::StatusOr<KeyPair> ReadKeyPair(absl::string_view cert_flag, const std::string& cert_path,
                                    absl::string_view key_flag, const std::string& key_path);

// A file of one or more CA certificates, as PEM; FAILED_PRECONDITION likewise.
absl::StatusOr<std::string> ReadCertificates(absl::string_view flag, const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SECURITY_PEM_FILES_H_
