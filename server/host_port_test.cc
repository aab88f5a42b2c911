#include "server/host_port.h"

#include "gtest/gtest.h"

namespace weightstream {
namespace {

TEST(HostPortTest, TakesHostsAndBracketedAddressesWithAPort) {
  const struct {
    const char* address;
    const char* host;
    uint32_t port;
  } kCases[] = {{"localhost:7070", "localhost", 7070},
                {"127.0.0.1:0", "127.0.0.1", 0},
                {"[::1]:65535", "::1", 65535},
                {":1", "", 1},
                {"[]:1", "", 1},
                {"[:1", "[", 1}};
  for (const auto& expected : kCases) {
    const absl::optional<HostPort> parsed = ParseHostPort(expected.address);
    ASSERT_TRUE(parsed.has_value()) << expected.address;
    EXPECT_EQ(parsed->host, expected.host) << expected.address;
    EXPECT_EQ(parsed->port, expected.port) << expected.address;
  }
}

TEST(HostPortTest, RefusesWhatHasNoPort) {
  for (const char* address : {"", "7070", "host", "host:", "host:65536", "host:-1", "host:http", "[::1]"}) {
    EXPECT_FALSE(ParseHostPort(address).has_value()) << address;
  }
}

}  // namespace
}  // namespace weightstream
