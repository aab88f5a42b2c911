#include "client/security.h"

#include "client/probe_socket.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(SecurityTest, NamingAFileOrANameMeansTls) {
  EXPECT_FALSE(Security().uses_tls());
  Security security;
  security.tls = true;
  EXPECT_TRUE(security.uses_tls());
  for (std::string Security::*member : {&Security::tls_ca, &Security::tls_cert, &Security::tls_server_name}) {
    Security one;
    one.*member = "x";
    EXPECT_TRUE(one.uses_tls());
  }
}

TEST(SecurityTest, ATokenDoesNotGoInPlaintextOverTcpUnlessItIsAllowed) {
  Security token;
  token.auth_token_file = "token";
  for (const char* address : {"10.0.0.5:7070", "127.0.0.1:7070", "localhost:7070", "[::1]:7070", "dns:///h:7070"}) {
    const absl::Status refused = ValidateSecurity(token, address);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr(address), HasSubstr("--tls-ca"), HasSubstr("--allow-plaintext-token")));
    Security with_tls = token;
    with_tls.tls = true;
    EXPECT_TRUE(ValidateSecurity(with_tls, address).ok());
    Security allowed = token;
    allowed.allow_plaintext_token = true;
    EXPECT_TRUE(ValidateSecurity(allowed, address).ok());
    EXPECT_TRUE(ValidateSecurity({}, address).ok());
  }
  EXPECT_TRUE(ValidateSecurity(token, "unix:/run/s").ok());
}

TEST(SecurityTest, ACertificateWantsItsKey) {
  Security security;
  security.tls_cert = "cert";
  EXPECT_THAT(std::string(ValidateSecurity(security, "h:1").message()), HasSubstr("--tls-key"));
  security.tls_key = "key";
  EXPECT_TRUE(ValidateSecurity(security, "h:1").ok());
}

TEST(SecurityTest, TheNameThatIsCheckedIsTheHostInTheAddress) {
  EXPECT_EQ(HostOf("host.example:7070"), "host.example");
  EXPECT_EQ(HostOf("10.0.0.5:7070"), "10.0.0.5");
  EXPECT_EQ(HostOf("[fe80::1]:7070"), "fe80::1");
  EXPECT_EQ(HostOf("dns:///host:7070"), "host");
  EXPECT_EQ(HostOf("dns://10.0.0.1:53/host:7070"), "host");
  EXPECT_EQ(HostOf("dns:host:7070"), "host");
  EXPECT_EQ(HostOf("unix:/run/s"), "localhost");
}

}  // namespace
}  // namespace weightstream
