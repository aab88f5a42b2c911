#include "server/exposure.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

using testing::AllOf;
using testing::HasSubstr;

SecurityOptions Tls() {
  SecurityOptions options;
  options.tls_cert = "cert.pem";
  options.tls_key = "key.pem";
  return options;
}

std::string Refusal(const std::string& address, const SecurityOptions& options) {
  const absl::Status status = CheckExposure(address, options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address << ": " << status;
  return std::string(status.message());
}

const char* const kLocal[] = {"127.0.0.1:7070", "127.8.9.10:0", "[::1]:7070", "localhost:7070", "LOCALHOST:0"};
const char* const kReachable[] = {
    "0.0.0.0:7070", "[::]:7070", "10.0.0.5:7070", "128.0.0.1:1", "[fe80::1]:1", "host:7070", "localhost.example.org:1",
    "127.1:1",      ":7070",     "[::ffff:0]:1",  "*:7070"};

TEST(ExposureTest, PlaintextStaysOnLoopbackAndUnixSocketsUnlessItIsAllowed) {
  for (const char* address : kLocal) EXPECT_TRUE(CheckExposure(address, {}).ok()) << address;
  EXPECT_TRUE(CheckExposure("unix:/run/weightstream.sock", {}).ok());
  SecurityOptions allowed;
  allowed.allow_plaintext = true;
  for (const char* address : kReachable) {
    EXPECT_THAT(Refusal(address, {}), AllOf(HasSubstr(address), HasSubstr("--tls-cert and --tls-key"),
                                            HasSubstr("--allow-plaintext "), HasSubstr("unix:/PATH")));
    EXPECT_TRUE(CheckExposure(address, allowed).ok()) << address;
    EXPECT_TRUE(CheckExposure(address, Tls()).ok()) << address;
  }
}

TEST(ExposureTest, TokensDoNotTravelInPlaintextOverTcpUnlessItIsAllowed) {
  SecurityOptions tokens;
  tokens.auth_token_file = "tokens";
  for (const char* address : kLocal) {
    EXPECT_THAT(Refusal(address, tokens),
                AllOf(HasSubstr("--auth-token-file"), HasSubstr(address), HasSubstr("--allow-plaintext-tokens")));
  }
  EXPECT_TRUE(CheckExposure("unix:/run/weightstream.sock", tokens).ok());
  SecurityOptions with_tls = Tls();
  with_tls.auth_token_file = "tokens";
  EXPECT_TRUE(CheckExposure("0.0.0.0:7070", with_tls).ok());
  tokens.allow_plaintext_tokens = true;
  EXPECT_TRUE(CheckExposure("127.0.0.1:7070", tokens).ok());
  EXPECT_THAT(Refusal("0.0.0.0:7070", tokens), HasSubstr("--allow-plaintext ")) << "which is another permission";
}

TEST(ExposureTest, FilesThatBelongTogetherAreAskedFor) {
  SecurityOptions options;
  options.tls_cert = "cert.pem";
  EXPECT_THAT(Refusal("127.0.0.1:0", options), HasSubstr("--tls-key"));
  options = {};
  options.tls_client_ca = "ca.pem";
  EXPECT_THAT(Refusal("127.0.0.1:0", options), AllOf(HasSubstr("--tls-client-ca"), HasSubstr("--tls-cert")));
}

TEST(ExposureTest, MetricsStayOnLoopbackUnlessTheyAreAllowedToLeaveIt) {
  for (const char* address : kLocal) EXPECT_TRUE(CheckMetricsExposure(address, {}).ok()) << address;
  EXPECT_TRUE(CheckMetricsExposure("", {}).ok());
  SecurityOptions allowed;
  allowed.allow_plaintext_metrics = true;
  // Neither of these is that permission: the one encrypts calls, the other is about weights.
  SecurityOptions others = Tls();
  others.allow_plaintext = true;
  for (const char* address : {"0.0.0.0:9464", "[::]:9464", "10.0.0.5:1", "host:9464"}) {
    const absl::Status refused = CheckMetricsExposure(address, others);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("--metrics-listen="), HasSubstr(address), HasSubstr("--allow-plaintext-metrics")));
    EXPECT_TRUE(CheckMetricsExposure(address, allowed).ok()) << address;
  }
}

}  // namespace
}  // namespace weightstream
