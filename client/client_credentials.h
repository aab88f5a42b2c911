// What a client presents to its servers, ready for gRPC. Internal to the client: it has gRPC types.
#ifndef WEIGHTSTREAM_CLIENT_CLIENT_CREDENTIALS_H_
#define WEIGHTSTREAM_CLIENT_CLIENT_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/security.h"

namespace weightstream {

// Thread-safe. Shared by the channels of one operation.
class ClientCredentials {
 public:
  // Reads and checks the files. FAILED_PRECONDITION, naming flag, file and remedy, where one is not sound.
  static absl::StatusOr<std::shared_ptr<const ClientCredentials>> Load(const Security& security);
  // Plaintext, no token.
  static std::shared_ptr<const ClientCredentials> Plaintext();

  std::shared_ptr<grpc::ChannelCredentials> ForChannel() const;

  bool tls() const { return security_.uses_tls(); }
  bool has_token() const { return !security_.auth_token_file.empty(); }
  bool has_certificate() const { return !certificates_pem_.empty(); }
  // The name that the certificate of the server at `address` must have; empty is the one in the address.
  std::string ServerNameFor(const std::string& address) const;
  // PEM; empty for the system's CAs, and without a certificate.
  const std::string& ca_pem() const { return ca_pem_; }
  const std::string& certificates_pem() const { return certificates_pem_; }
  const std::string& key_pem() const { return key_pem_; }

  // As the file holds it now; as it was, if it cannot be read now. Requires has_token().
  std::string token() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  explicit ClientCredentials(Security security) : security_(std::move(security)) {}

  const Security security_;
  std::string ca_pem_;
  std::string certificates_pem_;
  std::string key_pem_;
  mutable absl::Mutex mutex_;
  mutable std::string token_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_CLIENT_CREDENTIALS_H_
