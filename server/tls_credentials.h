// The server's TLS: gRPC's own, with certificates that are replaced while it runs.
//
// gRPC 1.51 has a provider that watches files (FileWatcherCertificateProvider). It hands over a key and a certificate
// that do not belong together, as they lie there while one after the other is replaced, and the connector drops what it
// had before it looks: the server then takes no connection until the files are right. Here a connection that comes in
// is given the last pair that was found sound (grpc_ssl_server_certificate_config_callback). See
// docs/decisions/0006-tls-reload.md.
#ifndef WEIGHTSTREAM_SERVER_TLS_CREDENTIALS_H_
#define WEIGHTSTREAM_SERVER_TLS_CREDENTIALS_H_

#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "security/pem_files.h"
#include "server/reload_complaint.h"
#include "server/security_options.h"
#include "server/two_looks.h"

namespace weightstream {

// Thread-safe. Must outlive the gRPC server that it was given to. TLS 1.2 and 1.3; with tls_client_ca a client must
// present a certificate that one of those CAs signed.
class TlsCredentials {
 public:
  // FAILED_PRECONDITION, naming file and remedy, if a file is not sound. Requires options.tls().
  static absl::StatusOr<std::unique_ptr<TlsCredentials>> Load(const SecurityOptions& options);

  std::shared_ptr<grpc::ServerCredentials> grpc_credentials();

  // Looks at the files again, to be called about once a second. What two looks in a row saw alike, and is sound, holds
  // for the connections that come from now on; what is not sound changes nothing, and is logged once.
  void Reload() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Material {
    KeyPair pair;
    std::string client_ca_pem;

    // What tells it from another.
    std::string Text() const { return absl::StrCat(pair.certificates_pem, "\n", pair.key_pem, "\n", client_ca_pem); }
  };

  TlsCredentials(SecurityOptions options, Material material)
      : options_(std::move(options)), material_(std::move(material)) {}

  static absl::StatusOr<Material> Read(const SecurityOptions& options);
  static void LogLoaded(const SecurityOptions& options, const Material& material);
  // gRPC asks with each connection that comes in.
  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config);

  const SecurityOptions options_;
  absl::Mutex mutex_;
  Material material_ ABSL_GUARDED_BY(mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 1;
  // The generation that gRPC has.
  uint64_t fetched_ ABSL_GUARDED_BY(mutex_) = 0;
  TwoLooks looks_;
  ReloadComplaint complaint_{"tls_not_reloaded", "the files read before stay in use"};
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TLS_CREDENTIALS_H_
