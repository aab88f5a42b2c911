#include "client/connection.h"

#include <gtest/gtest.h>

#include <string>

namespace weightstream {
namespace {

TEST(ValidateAddressTest, AcceptsEveryDocumentedForm) {
  for (const char* address : {"host:1", "10.0.0.5:7070", "[::1]:7070", "a-b.example.com:65535", "unix:/run/ws.sock",
                              "unix:relative.sock", "dns:///host:7070", "dns:host:7070", "dns://10.0.0.1/host:7070"}) {
    EXPECT_TRUE(ValidateAddress(address).ok()) << address << ": " << ValidateAddress(address);
  }
}

TEST(ValidateAddressTest, RefusesWhatCannotBeReachedAndQuotesIt) {
  for (const char* address :
       {"", "host", "host:", ":7070", "host:0", "host:65536", "host:-1", "host:+1", "host:7070x", "::1:7070", "[]:7070",
        "[::1]", "a:1,b:2", "a b:1", "unix:", "dns://host:7070", "dns:///host", "http://host"}) {
    const absl::Status status = ValidateAddress(address);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << address;
    EXPECT_NE(std::string(status.message()).find(address), std::string::npos) << status;
  }
}

TEST(ValidateTimeLimitsTest, NamesTheLimitThatIsNotPositive) {
  EXPECT_TRUE(ValidateTimeLimits({}).ok());
  TimeLimits limits;
  limits.per_gib = absl::ZeroDuration();
  EXPECT_TRUE(ValidateTimeLimits(limits).ok());
  limits.stall = absl::ZeroDuration();
  const absl::Status status = ValidateTimeLimits(limits);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(std::string(status.message()).find("\"stall\""), std::string::npos) << status;
}

}  // namespace
}  // namespace weightstream
