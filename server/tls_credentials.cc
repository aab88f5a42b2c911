#include "server/tls_credentials.h"

#include <grpc/grpc.h>

#include <utility>

#include "absl/time/clock.h"
#include "server/log.h"

namespace weightstream {
namespace {

// What grpc::SslServerCredentials makes, but for the callback, which the C++ interface lacks.
class CallbackCredentials final : public grpc::ServerCredentials {
 public:
  CallbackCredentials(grpc_ssl_client_certificate_request_type request,
                      grpc_ssl_server_certificate_config_callback callback, void* context)
      : credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(request, callback, context))) {}
  ~CallbackCredentials() override { grpc_server_credentials_release(credentials_); }
  CallbackCredentials(const CallbackCredentials&) = delete;
  CallbackCredentials& operator=(const CallbackCredentials&) = delete;

  // Tokens are looked at by the service itself, in one place for every kind of connection.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<TlsCredentials::Material> TlsCredentials::Read(const SecurityOptions& options) {
  absl::StatusOr<KeyPair> pair = ReadKeyPair("tls-cert", options.tls_cert, "tls-key", options.tls_key);
  if (!pair.ok()) return pair.status();
  Material material{*std::move(pair), ""};
  if (options.tls_client_ca.empty()) return material;
  absl::StatusOr<std::string> client_ca = ReadCertificates("tls-client-ca", options.tls_client_ca);
  if (!client_ca.ok()) return client_ca.status();
  material.client_ca_pem = *std::move(client_ca);
  return material;
}

void TlsCredentials::LogLoaded(const SecurityOptions& options, const Material& material) {
  const std::string expires = absl::FormatTime(absl::RFC3339_sec, material.pair.expires, absl::UTCTimeZone());
  const auto log = material.pair.expires > absl::Now() ? LogInfo : LogWarning;
  log("tls_certificate", {{"file", options.tls_cert},
                          {"expires", expires},
                          {"client_certificates", material.client_ca_pem.empty() ? "not asked for" : "required"}});
}

absl::StatusOr<std::unique_ptr<TlsCredentials>> TlsCredentials::Load(const SecurityOptions& options) {
  absl::StatusOr<Material> material = Read(options);
  if (!material.ok()) return material.status();
  LogLoaded(options, *material);
  return std::unique_ptr<TlsCredentials>(new TlsCredentials(options, *std::move(material)));
}

std::shared_ptr<grpc::ServerCredentials> TlsCredentials::grpc_credentials() {
  const auto request = options_.tls_client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                      : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  return std::make_shared<CallbackCredentials>(request, &TlsCredentials::Fetch, this);
}

void TlsCredentials::Reload() {
  const absl::StatusOr<Material> material = Read(options_);
  if (!looks_.SawAgain(material.ok() ? material->Text() : material.status().ToString())) return;
  complaint_.Note(material.status());
  if (!material.ok()) return;
  {
    absl::MutexLock lock(&mutex_);
    if (material->Text() == material_.Text()) return;
    material_ = *material;
    ++generation_;
  }
  LogLoaded(options_, *material);
}

grpc_ssl_certificate_config_reload_status TlsCredentials::Fetch(void* self,
                                                                grpc_ssl_server_certificate_config** config) {
  auto* const credentials = static_cast<TlsCredentials*>(self);
  absl::MutexLock lock(&credentials->mutex_);
  if (credentials->fetched_ == credentials->generation_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const Material& material = credentials->material_;
  const grpc_ssl_pem_key_cert_pair pair{material.pair.key_pem.c_str(), material.pair.certificates_pem.c_str()};
  // Debian's gRPC asserts that there are CAs, also where no client is asked for a certificate and none is looked at.
  const std::string& ca = material.client_ca_pem.empty() ? material.pair.certificates_pem : material.client_ca_pem;
  *config = grpc_ssl_server_certificate_config_create(ca.c_str(), &pair, 1);
  credentials->fetched_ = credentials->generation_;
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace weightstream
