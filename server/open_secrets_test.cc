#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "security/test_certificates.h"
#include "server/log.h"
#include "server/server_security.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kEvent[] = "secret_open_to_others";

class OpenFilesTest : public testing::Test {
 protected:
  OpenFilesTest() {
    const TestCa ca;
    const TestPair pair = ca.Sign("server", "DNS:localhost");
    options_.tls_cert = Write("cert", pair.certificate_pem, 0644);
    options_.tls_key = Write("key", pair.key_pem, 0600);
    options_.tls_client_ca = Write("client-ca", ca.certificate_pem(), 0644);
    options_.auth_token_file = Write("tokens", "read * token:0123456789abcdef\n", 0640);
  }

  std::string Write(const std::string& name, const std::string& text, mode_t mode) const {
    const std::string path = absl::StrCat(folder_, "/", name);
    WriteTestFile(path, text);
    SetMode(path, mode);
    return path;
  }

  static void SetMode(const std::string& path, mode_t mode) { ASSERT_EQ(chmod(path.c_str(), mode), 0) << path; }

  template <typename Act>
  static std::string LoggedBy(Act act) {
    testing::internal::CaptureStderr();
    EXPECT_TRUE(StartLogging("info", LogFormat::kText).ok());
    act();
    return testing::internal::GetCapturedStderr();
  }

  std::unique_ptr<ServerSecurity> Load() const {
    auto security = ServerSecurity::Load("127.0.0.1:0", options_);
    EXPECT_TRUE(security.ok()) << security.status();
    return *std::move(security);
  }

  const std::string folder_ = MakeTestFolder();
  SecurityOptions options_;
};

TEST_F(OpenFilesTest, FilesThatOnlyTheirUserAndGroupReadAreNoMatter) {
  EXPECT_THAT(LoggedBy([&] { Load()->Reload(); }), Not(HasSubstr(kEvent)));
}

TEST_F(OpenFilesTest, AKeyOrATokenFileThatOthersMayReadIsToldAtTheStart) {
  SetMode(options_.tls_key, 0604);
  SetMode(options_.auth_token_file, 0666);
  const std::string log = LoggedBy([&] { Load(); });
  EXPECT_THAT(
      log, AllOf(HasSubstr(absl::StrCat("warning ", kEvent, " file=", options_.tls_key, " others_may=read ")),
                 HasSubstr(absl::StrCat(kEvent, " file=", options_.auth_token_file, " others_may=\"read and write\"")),
                 HasSubstr("chmod")));
}

TEST_F(OpenFilesTest, CasThatOthersMayWriteAdmitAnybody) {
  SetMode(options_.tls_client_ca, 0646);
  EXPECT_THAT(LoggedBy([&] { Load(); }),
              HasSubstr(absl::StrCat(kEvent, " file=", options_.tls_client_ca, " others_may=write")));
}

TEST_F(OpenFilesTest, WhatBecomesOpenLaterIsToldOnceEachTime) {
  const auto security = Load();
  const auto look = [&] { return LoggedBy([&] { security->Reload(); }); };
  for (int i = 0; i < 2; ++i) {
    SetMode(options_.auth_token_file, 0644);
    EXPECT_THAT(look(), HasSubstr(kEvent));
    EXPECT_THAT(look(), Not(HasSubstr(kEvent)));
    SetMode(options_.auth_token_file, 0600);
    EXPECT_THAT(look(), Not(HasSubstr(kEvent)));
  }
}

}  // namespace
}  // namespace weightstream
