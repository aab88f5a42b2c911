#include "security/pem_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "security/small_file.h"

namespace weightstream {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio Reader(const std::string& pem) { return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free}; }

// Without it OpenSSL would ask for a passphrase at the terminal.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::Time ExpiryOf(const X509* certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) != 1) return absl::InfiniteFuture();
  return absl::FromTM(time, absl::UTCTimeZone());
}

// The first certificate; all that follow must parse as well. Null with the reason in `status` otherwise.
absl::StatusOr<Certificate> ParseCertificates(absl::string_view flag, const std::string& path, const std::string& pem) {
  const Bio reader = Reader(pem);
  Certificate first(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr), &X509_free);
  if (first == nullptr) {
    return FileError(flag, path,
                     "holds no certificate that can be parsed; give a PEM file (-----BEGIN CERTIFICATE-----)");
  }
  for (int number = 2;; ++number) {
    const Certificate next(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr), &X509_free);
    if (next != nullptr) continue;
    if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) break;
    return FileError(flag, path, absl::StrCat("its certificate number ", number, " cannot be parsed; is it cut off?"));
  }
  return first;
}

absl::StatusOr<Key> ParseKey(absl::string_view flag, const std::string& path, const std::string& pem) {
  const Bio reader = Reader(pem);
  bool passphrase = false;
  Key key(PEM_read_bio_PrivateKey(reader.get(), nullptr, &NoPassphrase, &passphrase), &EVP_PKEY_free);
  if (passphrase) {
    return FileError(
        flag, path,
        "the key is protected by a passphrase, which nobody could type here; store it without one (openssl "
        "pkey) and let only this process's user read it");
  }
  if (key == nullptr) {
    return FileError(flag, path,
                     "holds no private key that can be parsed; give a PEM file (-----BEGIN PRIVATE KEY-----)");
  }
  return key;
}

}  // namespace

absl::StatusOr<KeyPair> ReadKeyPair(absl::string_view cert_flag, const std::string& cert_path,
                                    absl::string_view key_flag, const std::string& key_path) {
  // OpenSSL's errors wait in a queue of the thread, where gRPC would take ours for its own.
  const absl::Cleanup forget = [] { ERR_clear_error(); };
  ERR_clear_error();
  absl::StatusOr<std::string> certificates = ReadSmallFile(cert_flag, cert_path, "a PEM file with the certificate");
  if (!certificates.ok()) return certificates.status();
  absl::StatusOr<std::string> key_pem = ReadSmallFile(key_flag, key_path, "a PEM file with the private key");
  if (!key_pem.ok()) return key_pem.status();
  const absl::StatusOr<Certificate> leaf = ParseCertificates(cert_flag, cert_path, *certificates);
  if (!leaf.ok()) return leaf.status();
  const absl::StatusOr<Key> key = ParseKey(key_flag, key_path, *key_pem);
  if (!key.ok()) return key.status();
  if (X509_check_private_key(leaf->get(), key->get()) != 1) {
    return FileError(key_flag, key_path,
                     absl::StrCat("is not the key of the first certificate in --", cert_flag, "=", cert_path,
                                  "; give the pair that belongs together, the server's or client's own certificate "
                                  "before those of its CAs"));
  }
  return KeyPair{*std::move(certificates), *std::move(key_pem), ExpiryOf(leaf->get())};
}

absl::StatusOr<std::string> ReadCertificates(absl::string_view flag, const std::string& path) {
  const absl::Cleanup forget = [] { ERR_clear_error(); };
  ERR_clear_error();
  absl::StatusOr<std::string> pem = ReadSmallFile(flag, path, "a PEM file with the CA's certificate");
  if (!pem.ok()) return pem.status();
  const absl::StatusOr<Certificate> first = ParseCertificates(flag, path, *pem);
  if (!first.ok()) return first.status();
  return pem;
}

}  // namespace weightstream
