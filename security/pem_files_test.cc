#include "security/pem_files.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "security/test_certificates.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PemFilesTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(folder_, "/", name);
    WriteTestFile(path, text);
    return path;
  }

  // The error of a pair of files.
  std::string Error(const std::string& cert, const std::string& key) {
    const absl::Status status = ReadKeyPair("tls-cert", cert, "tls-key", key).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  }

  const std::string folder_ = MakeTestFolder();
  const TestCa ca_;
  const TestPair pair_ = ca_.Sign("server", "DNS:localhost");
};

TEST_F(PemFilesTest, APairThatBelongsTogetherIsRead) {
  const auto pair = ReadKeyPair("tls-cert", Write("c", pair_.certificate_pem + ca_.certificate_pem()), "tls-key",
                                Write("k", pair_.key_pem));
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(pair->certificates_pem, pair_.certificate_pem + ca_.certificate_pem());
  EXPECT_EQ(pair->key_pem, pair_.key_pem);
  EXPECT_GT(pair->expires, absl::Now() + absl::Hours(23));
  EXPECT_LT(pair->expires, absl::Now() + absl::Hours(25));
  EXPECT_TRUE(ReadCertificates("tls-client-ca", Write("ca", ca_.certificate_pem())).ok());
}

TEST_F(PemFilesTest, AFileThatCannotBeReadIsNamedWithItsFlagAndARemedy) {
  const std::string cert = Write("c", pair_.certificate_pem);
  EXPECT_THAT(Error(cert, folder_ + "/none"), AllOf(HasSubstr("--tls-key=" + folder_ + "/none"),
                                                    HasSubstr("No such file"), HasSubstr("; give a PEM file")));
  EXPECT_THAT(Error(folder_, Write("k", pair_.key_pem)), AllOf(HasSubstr("--tls-cert="), HasSubstr("no regular file")));
  EXPECT_THAT(Error(Write("empty", ""), folder_ + "/k"), HasSubstr("is empty"));
  EXPECT_THAT(Error(Write("large", std::string(2 << 20, 'x')), folder_ + "/k"), HasSubstr("larger than 1 MiB"));
  const std::string pipe = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(Error(pipe, folder_ + "/k"), HasSubstr("no regular file")) << "and does not wait for a writer";
}

TEST_F(PemFilesTest, WhatIsNoPemOrIsCutOffIsTold) {
  const std::string key = Write("k", pair_.key_pem);
  EXPECT_THAT(Error(Write("c", "nonsense\n"), key), HasSubstr("holds no certificate"));
  EXPECT_THAT(Error(Write("c", pair_.certificate_pem + ca_.certificate_pem().substr(0, 200)), key),
              HasSubstr("certificate number 2 cannot be parsed"));
  const std::string cert = Write("c", pair_.certificate_pem);
  EXPECT_THAT(Error(cert, Write("k2", pair_.key_pem.substr(0, 60))), HasSubstr("holds no private key"));
  EXPECT_FALSE(ReadCertificates("tls-ca", key).ok()) << "a key is no certificate";
}

TEST_F(PemFilesTest, AKeyOfAnotherCertificateIsTold) {
  const std::string message =
      Error(Write("c", pair_.certificate_pem), Write("k", ca_.Sign("other", "DNS:localhost").key_pem));
  EXPECT_THAT(message, AllOf(HasSubstr("--tls-key="), HasSubstr("is not the key"), HasSubstr("--tls-cert=")));
  // The CA before the leaf: a usual mistake.
  EXPECT_THAT(Error(Write("c", ca_.certificate_pem() + pair_.certificate_pem), Write("k", pair_.key_pem)),
              HasSubstr("is not the key"));
}

TEST_F(PemFilesTest, AKeyWithAPassphraseIsRefusedWithoutAskingForOne) {
  const std::string encrypted =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
      "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAICCAAw\n"
      "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAAAAAAAAAAAAAAAAAAAAAAEgZAA\n"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
      "-----END ENCRYPTED PRIVATE KEY-----\n";
  EXPECT_THAT(Error(Write("c", pair_.certificate_pem), Write("k", encrypted)), HasSubstr("passphrase"));
}

}  // namespace
}  // namespace weightstream
