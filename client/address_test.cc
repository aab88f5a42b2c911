#include "client/address.h"

#include <gtest/gtest.h>

#include <string>

namespace weightstream {
namespace {

std::string Parts(absl::string_view text) {
  const absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) return "none";
  switch (address->kind) {
    case Address::Kind::kHost:
      return "host " + address->host + " port " + std::to_string(address->port);
    case Address::Kind::kDns:
      return "dns <" + address->resolver + "> " + address->host + " port " + std::to_string(address->port);
    case Address::Kind::kUnix:
      return "unix " + address->path;
  }
  return "unknown";
}

TEST(ParseAddressTest, EveryDocumentedFormComesApart) {
  EXPECT_EQ(Parts("host.example:1"), "host host.example port 1");
  EXPECT_EQ(Parts("10.0.0.5:65535"), "host 10.0.0.5 port 65535");
  EXPECT_EQ(Parts("[2001:db8::1]:7070"), "host 2001:db8::1 port 7070");
  EXPECT_EQ(Parts("unix:/run/ws.sock"), "unix /run/ws.sock");
  EXPECT_EQ(Parts("unix:relative.sock"), "unix relative.sock");
  EXPECT_EQ(Parts("dns:///weights.default.svc:7070"), "dns <> weights.default.svc port 7070");
  EXPECT_EQ(Parts("dns:weights:7070"), "dns <> weights port 7070");
  EXPECT_EQ(Parts("dns://10.0.0.1:53/weights:7070"), "dns <10.0.0.1:53> weights port 7070");
  EXPECT_EQ(Parts("dns:///[::1]:7070"), "dns <> ::1 port 7070");
}

TEST(ParseAddressTest, KnowsThisMachineByItsLoopbackAddressesAndUnixSockets) {
  for (const std::string here : {"127.0.0.1:7070", "127.8.9.10:1", "[::1]:7070", "localhost:7070", "dns:///localhost:1",
                                 "unix:/run/weightstream.sock"}) {
    EXPECT_TRUE(IsLocalAddress(*ParseAddress(here))) << here;
  }
  for (const std::string elsewhere : {"10.0.0.5:7070", "[fe80::1]:1", "weights:7070", "localhost.example.org:1"}) {
    EXPECT_FALSE(IsLocalAddress(*ParseAddress(elsewhere))) << elsewhere;
  }
}

TEST(ParseAddressTest, RefusesWhatCannotBeReachedAndQuotesIt) {
  for (const std::string text : {"",
                                 "host",
                                 "host:",
                                 ":7070",
                                 "host:0",
                                 "host:65536",
                                 "host:99999999999",
                                 "host:-1",
                                 "host:+1",
                                 "host:7070x",
                                 "::1:7070",
                                 "[]:7070",
                                 "[:7070",
                                 "[::1]",
                                 "[::1:7070",
                                 "a:1,b:2",
                                 "a b:1",
                                 "unix:",
                                 "dns:",
                                 "dns:///",
                                 "dns://host:7070",
                                 "dns:///host",
                                 "http://host",
                                 "\x01:7070"}) {
    const absl::Status status = ParseAddress(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    const std::string quoted = text == "\x01:7070" ? "\\x01:7070" : text;
    EXPECT_NE(std::string(status.message()).find(quoted), std::string::npos) << status;
    EXPECT_NE(std::string(status.message()).find("give HOST:PORT, [IPV6]:PORT"), std::string::npos) << status;
  }
}

TEST(HostAndPortTest, IsReadBackAsItWasWritten) {
  EXPECT_EQ(HostAndPort("10.0.0.5", 7070), "10.0.0.5:7070");
  EXPECT_EQ(HostAndPort("2001:db8::5", 1), "[2001:db8::5]:1");
  EXPECT_EQ(Parts(HostAndPort("2001:db8::5", 1)), "host 2001:db8::5 port 1");
}

}  // namespace
}  // namespace weightstream
