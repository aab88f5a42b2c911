#include "server/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

sockaddr_storage V4(const char* text) {
  sockaddr_storage address{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(1234);
  EXPECT_EQ(inet_pton(AF_INET, text, &v4.sin_addr), 1);
  return address;
}

sockaddr_storage V6(const char* text) {
  sockaddr_storage address{};
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(1234);
  EXPECT_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
  return address;
}

TEST(PeerTest, APeerIsAnAddressWhateverItsPort) {
  EXPECT_EQ(PeerOf("ipv4:10.0.0.7:41000"), "10.0.0.7");
  EXPECT_EQ(PeerOf("ipv4:10.0.0.7:41001"), "10.0.0.7");
  EXPECT_EQ(PeerOf("ipv6:%5B2001:db8::7%5D:41000"), "2001:db8::/64");
  EXPECT_EQ(PeerOf("ipv6:[2001:db8::7]:41000"), "2001:db8::/64");
}

TEST(PeerTest, AnIpv6HostThatChangesItsAddressStaysOnePeer) {
  for (const char* address : {"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2:8000::"}) {
    EXPECT_EQ(PeerOf(V6(address)), "2001:db8:1:2::/64") << address;
    EXPECT_EQ(PeerOf(absl::StrCat("ipv6:%5B", address, "%5D:41000")), "2001:db8:1:2::/64") << address;
  }
  EXPECT_EQ(PeerOf(V6("2001:db8:1:3::1")), "2001:db8:1:3::/64") << "the neighbouring network is another";
  EXPECT_EQ(PeerOf("ipv6:%5Bfe80::1%25eth0%5D:41000"), "fe80::/64");
  EXPECT_EQ(PeerOf("ipv6:%5Bfe80::1%eth0%5D:41000"), "fe80::/64");
}

TEST(PeerTest, LoopbackIsOneHost) {
  EXPECT_EQ(PeerOf("ipv6:%5B::1%5D:41000"), "::1");
  EXPECT_EQ(PeerOf(V6("::1")), "::1");
}

TEST(PeerTest, AllClientsOfAUnixSocketAreOnePeer) {
  EXPECT_EQ(PeerOf("unix:"), "local");
  EXPECT_EQ(PeerOf("unix:/run/weightstream.sock"), "local");
  EXPECT_EQ(PeerOf("unix-abstract:x"), "local");
  sockaddr_storage address{};
  address.ss_family = AF_UNIX;
  EXPECT_EQ(PeerOf(address), "local");
}

TEST(PeerTest, ASocketSaysTheSameAsGrpc) {
  EXPECT_EQ(PeerOf(V4("10.0.0.7")), "10.0.0.7");
  EXPECT_EQ(PeerOf(V6("2001:db8::7")), PeerOf("ipv6:%5B2001:db8::7%5D:41000"));
  EXPECT_EQ(PeerOf(V6("::ffff:10.0.0.7")), "10.0.0.7");
  EXPECT_EQ(PeerOf("ipv6:%5B::ffff:10.0.0.7%5D:41000"), "10.0.0.7");
}

}  // namespace
}  // namespace weightstream
