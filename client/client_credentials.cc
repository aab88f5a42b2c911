#include "client/client_credentials.h"

#include <utility>

#include "security/pem_files.h"
#include "security/token.h"

namespace weightstream {
namespace {

constexpr char kTokenFlag[] = "auth-token-file";

}  // namespace

absl::StatusOr<std::shared_ptr<const ClientCredentials>> ClientCredentials::Load(const Security& security) {
  std::shared_ptr<ClientCredentials> credentials(new ClientCredentials(security));
  if (!security.tls_ca.empty()) {
    absl::StatusOr<std::string> ca = ReadCertificates("tls-ca", security.tls_ca);
    if (!ca.ok()) return ca.status();
    credentials->ca_pem_ = *std::move(ca);
  }
  if (!security.tls_cert.empty()) {
    absl::StatusOr<KeyPair> pair = ReadKeyPair("tls-cert", security.tls_cert, "tls-key", security.tls_key);
    if (!pair.ok()) return pair.status();
    credentials->certificates_pem_ = std::move(pair->certificates_pem);
    credentials->key_pem_ = std::move(pair->key_pem);
  }
  if (!security.auth_token_file.empty()) {
    absl::StatusOr<std::string> token = ReadToken(kTokenFlag, security.auth_token_file);
    if (!token.ok()) return token.status();
    absl::MutexLock lock(&credentials->mutex_);
    credentials->token_ = *std::move(token);
  }
  return credentials;
}

std::shared_ptr<const ClientCredentials> ClientCredentials::Plaintext() {
  return std::shared_ptr<const ClientCredentials>(new ClientCredentials(Security()));
}

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials::ForChannel() const {
  if (!tls()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca_pem_;
  options.pem_cert_chain = certificates_pem_;
  options.pem_private_key = key_pem_;
  return grpc::SslCredentials(options);
}

std::string ClientCredentials::ServerNameFor(const std::string& address) const {
  if (!security_.tls_server_name.empty()) return security_.tls_server_name;
  const auto found = security_.tls_names.find(address);
  return found == security_.tls_names.end() ? "" : found->second;
}

std::string ClientCredentials::token() const {
  absl::StatusOr<std::string> token = ReadToken(kTokenFlag, security_.auth_token_file);
  absl::MutexLock lock(&mutex_);
  if (token.ok()) token_ = *std::move(token);
  return token_;
}

}  // namespace weightstream
