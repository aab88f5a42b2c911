#include "client/handshake_probe.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/probe_socket.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// A server on another continent answers in a third of that, several times.
constexpr absl::Duration kProbeLimit = absl::Seconds(2);

constexpr unsigned char kHttp2[] = {2, 'h', '2'};

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using Session = std::unique_ptr<SSL, decltype(&SSL_free)>;

absl::Status Failed(absl::string_view what) {
  return absl::UnauthenticatedError(absl::StrCat("TLS handshake failed: ", what));
}

Bio Reader(const std::string& pem) { return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free}; }

void Trust(SSL_CTX* context, const std::string& pem) {
  const Bio reader = Reader(pem);
  for (;;) {
    const Certificate ca(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr), &X509_free);
    if (ca == nullptr) return;
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca.get());
  }
}

void Present(SSL_CTX* context, const ClientCredentials& credentials) {
  const Bio certificates = Reader(credentials.certificates_pem());
  const Certificate leaf(PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr), &X509_free);
  SSL_CTX_use_certificate(context, leaf.get());
  // The context takes over those that follow.
  while (X509* issuer = PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr)) {
    SSL_CTX_add_extra_chain_cert(context, issuer);
  }
  const Bio key_reader = Reader(credentials.key_pem());
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_reader.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  SSL_CTX_use_PrivateKey(context, key.get());
}

// "DNS:a.example, IP Address:10.0.0.5", or the common name.
std::string NamesOf(X509* certificate) {
  const Bio out(BIO_new(BIO_s_mem()), &BIO_free);
  const int at = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1);
  if (at >= 0) {
    X509V3_EXT_print(out.get(), X509_get_ext(certificate, at), 0, 0);
  } else {
    X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return Printable(absl::string_view(text, static_cast<size_t>(size)));
}

// What OpenSSL tells in the course of a handshake, and no more after one that failed.
struct Notes {
  bool certificate_asked = false;
  std::string server_names;
};

Notes& NotesOf(const SSL* session) { return *static_cast<Notes*>(SSL_get_app_data(session)); }

// Changes no verdict.
int NoteServerNames(int accepted, X509_STORE_CTX* store) {
  const auto* const session =
      static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  X509* const leaf = X509_STORE_CTX_get0_cert(store);
  if (accepted == 0 && leaf != nullptr) NotesOf(session).server_names = NamesOf(leaf);
  return accepted;
}

// Notes that the server asked for a certificate. 1 is "go on".
int NoteRequest(SSL* session, void*) {
  NotesOf(session).certificate_asked = true;
  return 1;
}

// OpenSSL writes to the socket in the plain way: to one that the server has closed that is a SIGPIPE, which is not ours
// to take for the process.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    const timespec now{};
    if (!was_pending_) sigtimedwait(&pipe_, nullptr, &now);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

Context NewContext(const ClientCredentials& credentials) {
  Context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof(kHttp2));
  SSL_CTX_set_cert_cb(context.get(), &NoteRequest, nullptr);
  if (!credentials.tls()) return context;
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, &NoteServerNames);
  if (credentials.ca_pem().empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else {
    Trust(context.get(), credentials.ca_pem());
  }
  if (credentials.has_certificate()) Present(context.get(), credentials);
  return context;
}

bool IsIp(const std::string& name) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 || inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

void ExpectName(SSL* session, const std::string& name) {
  if (IsIp(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name.c_str());
  } else {
    SSL_set1_host(session, name.c_str());
    SSL_set_tlsext_host_name(session, name.c_str());
  }
}

absl::Status VerifyFailure(long result, const std::string& name, const std::string& server_names) {
  switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return Failed(absl::StrCat("the server's certificate is not for \"", name, "\"",
                                 server_names.empty() ? "" : absl::StrCat(" but for ", server_names),
                                 "; use such a name in the address, or give it with --tls-server-name"));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return Failed(
          "the server's certificate was not signed by a CA that is trusted here; give the one that signed it with "
          "--tls-ca");
    default:
      return Failed(absl::StrCat("the server's certificate is not accepted: ", X509_verify_cert_error_string(result),
                                 "; renew it on the server (--tls-cert, --tls-key)"));
  }
}

// What happened in a session: OK if there is no telling.
class Probe {
 public:
  Probe(const ClientCredentials& credentials, std::string name)
      : credentials_(credentials),
        name_(std::move(name)),
        context_(NewContext(credentials)),
        session_(SSL_new(context_.get()), &SSL_free) {}

  absl::Status Run(int fd) {
    SSL_set_app_data(session_.get(), &notes_);
    if (credentials_.tls()) ExpectName(session_.get(), name_);
    SSL_set_fd(session_.get(), fd);
    ERR_clear_error();
    const int connected = SSL_connect(session_.get());
    if (!credentials_.tls()) return Plaintext(connected == 1);
    if (connected != 1) return HandshakeFailure();
    const unsigned char* protocol = nullptr;
    unsigned int length = 0;
    SSL_get0_alpn_selected(session_.get(), &protocol, &length);
    if (length == 0) {
      return Failed("the server speaks TLS but not HTTP/2 with it (no ALPN \"h2\"); is it a weightstream-server?");
    }
    // With TLS 1.3 a server judges the client's certificate after our part of the handshake: its first bytes tell.
    char byte = 0;
    ERR_clear_error();
    const int got = SSL_read(session_.get(), &byte, 1);
    return got > 0 ? absl::OkStatus() : AfterHandshake(SSL_get_error(session_.get(), got));
  }

 private:
  absl::Status Plaintext(bool connected) {
    // An alert is TLS as well.
    const bool alert = ERR_GET_REASON(ERR_peek_error()) >= SSL_AD_REASON_OFFSET;
    if (!connected && !alert) return absl::OkStatus();
    return Failed("the server speaks TLS and this client plaintext; give --tls-ca=FILE, or --tls for the system's CAs");
  }

  absl::Status HandshakeFailure() {
    const long verified = SSL_get_verify_result(session_.get());
    if (verified != X509_V_OK) return VerifyFailure(verified, name_, notes_.server_names);
    const unsigned long error = ERR_peek_error();
    switch (ERR_GET_REASON(error)) {
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_HTTP_REQUEST:
      case SSL_R_PACKET_LENGTH_TOO_LONG:
        return Failed(
            "the server does not speak TLS; leave out --tls and the --tls-* flags for a plaintext server, or start the "
            "server with --tls-cert and --tls-key");
      case SSL_R_UNSUPPORTED_PROTOCOL:
        return TooOld();
      default:
        return ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET ? Refused(error) : ClosedByServer();
    }
  }

  static absl::Status TooOld() {
    return Failed(
        "the server speaks only versions of TLS before 1.2, which are not safe; is it a weightstream-server? If "
        "something "
        "stands before it that ends TLS, have that speak TLS 1.2 or 1.3");
  }

  absl::Status AfterHandshake(int kind) {
    const unsigned long error = ERR_peek_error();
    if (kind == SSL_ERROR_SSL && ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET) return Refused(error);
    // Nothing within the limit: no telling.
    return kind == SSL_ERROR_WANT_READ ? absl::OkStatus() : ClosedByServer();
  }

  // gRPC 1.51 closes a connection that it refuses, often without an alert; a certificate that it asked for is then the
  // only reason there is.
  absl::Status ClosedByServer() const {
    if (!notes_.certificate_asked) return absl::OkStatus();
    return credentials_.has_certificate() ? CertificateRefused("") : CertificateMissing();
  }

  absl::Status Refused(unsigned long error) {
    const char* reason = ERR_reason_error_string(error);
    const std::string words = reason == nullptr ? "an alert" : reason;
    switch (ERR_GET_REASON(error) - SSL_AD_REASON_OFFSET) {
      case SSL_AD_CERTIFICATE_REQUIRED:
        return CertificateMissing();
      case SSL_AD_UNKNOWN_CA:
      case SSL_AD_BAD_CERTIFICATE:
      case SSL_AD_CERTIFICATE_EXPIRED:
      case SSL_AD_CERTIFICATE_REVOKED:
      case SSL_AD_CERTIFICATE_UNKNOWN:
      case SSL_AD_UNSUPPORTED_CERTIFICATE:
      case SSL_AD_DECRYPT_ERROR:
        return CertificateRefused(words);
      case SSL_AD_PROTOCOL_VERSION:
        return TooOld();
      default:
        if (notes_.certificate_asked) return ClosedByServer();
        return Failed(absl::StrCat("the server refused: ", words));
    }
  }

  static absl::Status CertificateMissing() {
    return Failed("the server requires a client certificate; give one with --tls-cert and --tls-key");
  }

  static absl::Status CertificateRefused(const std::string& words) {
    return Failed(absl::StrCat("the server refuses this client's certificate", words.empty() ? "" : " (", words,
                               words.empty() ? "" : ")",
                               "; give one with --tls-cert that a CA in the server's --tls-client-ca signed and that "
                               "has not expired"));
  }

  const ClientCredentials& credentials_;
  const std::string name_;
  const Context context_;
  const Session session_;
  Notes notes_;
};

}  // namespace

absl::Status ProbeHandshake(const std::string& address, const ClientCredentials& credentials, absl::Duration limit) {
  const int fd = ConnectSocket(address, limit);
  if (fd < 0) return absl::OkStatus();
  const absl::Cleanup close = [fd] { ::close(fd); };
  const absl::Cleanup forget = [] { ERR_clear_error(); };
  const NoSigpipe no_sigpipe;
  const std::string name = credentials.ServerNameFor(address);
  return Probe(credentials, name.empty() ? HostOf(address) : name).Run(fd);
}

absl::Status ExplainFailure(const absl::Status& failure, grpc::Channel& channel, const std::string& address,
                            const ClientCredentials& credentials) {
  // Where nobody listens there is nothing to shake hands with.
  if (!absl::IsUnavailable(failure) || absl::StrContains(failure.message(), "Connection refused") ||
      absl::StrContains(failure.message(), "DNS resolution failed") || channel.GetState(false) == GRPC_CHANNEL_READY) {
    return failure;
  }
  const absl::Status probed = ProbeHandshake(address, credentials, kProbeLimit);
  return probed.ok() ? failure : probed;
}

}  // namespace weightstream
