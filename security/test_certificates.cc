#include "security/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>

namespace weightstream {
namespace {

constexpr long kHour = 3600;

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

void Require(bool done) {
  if (done) return;
  std::fprintf(stderr, "OpenSSL cannot make the test's certificates\n");
  std::abort();
}

Key NewKey() { return {EVP_EC_gen("P-256"), &EVP_PKEY_free}; }

std::string Contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string Pem(X509* certificate) {
  BIO* bio = BIO_new(BIO_s_mem());
  Require(PEM_write_bio_X509(bio, certificate) == 1);
  return Contents(bio);
}

std::string Pem(EVP_PKEY* key) {
  BIO* bio = BIO_new(BIO_s_mem());
  Require(PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return Contents(bio);
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  Require(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

Certificate NewCertificate(EVP_PKEY* key, const std::string& common_name, int valid_hours) {
  Certificate certificate(X509_new(), &X509_free);
  uint32_t serial = 0;
  Require(certificate != nullptr && RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial)) == 1);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1 + (serial >> 1));
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kHour);
  // An expired one ended a minute ago.
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), valid_hours == 0 ? -60 : (valid_hours - 1) * kHour);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
  return certificate;
}

}  // namespace

struct TestCa::Impl {
  Key key{nullptr, &EVP_PKEY_free};
  Certificate certificate{nullptr, &X509_free};
};

TestCa::TestCa(const std::string& common_name) : impl_(std::make_unique<Impl>()) {
  impl_->key = NewKey();
  impl_->certificate = NewCertificate(impl_->key.get(), common_name, 25);
  X509* certificate = impl_->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  AddExtension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate, certificate, NID_key_usage, "critical,keyCertSign");
  AddExtension(certificate, certificate, NID_subject_key_identifier, "hash");
  Require(X509_sign(certificate, impl_->key.get(), EVP_sha256()) != 0);
  certificate_pem_ = Pem(certificate);
}

TestCa::~TestCa() = default;

TestPair TestCa::Sign(const std::string& common_name, const std::string& names, int valid_hours) const {
  const Key key = NewKey();
  const Certificate certificate = NewCertificate(key.get(), common_name, valid_hours);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(impl_->certificate.get()));
  if (!names.empty()) AddExtension(certificate.get(), impl_->certificate.get(), NID_subject_alt_name, names);
  Require(X509_sign(certificate.get(), impl_->key.get(), EVP_sha256()) != 0);
  return {Pem(certificate.get()), Pem(key.get())};
}

}  // namespace weightstream
