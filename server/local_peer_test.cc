#include "server/local_peer.h"

#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

TEST(LocalPeerTest, UnixSocketsAndLoopbackAreThisMachine) {
  for (const char* local : {"unix:", "unix:/run/weightstream.sock", "unix-abstract:x", "ipv4:127.0.0.1:43210",
                            "ipv4:127.3.2.1:1", "ipv6:%5B::1%5D:43210", "ipv6:[::1]:43210"}) {
    EXPECT_TRUE(IsLocalPeer(local)) << local;
  }
}

TEST(LocalPeerTest, AnythingElseIsNot) {
  for (const char* remote : {"", "unknown", "ipv4:10.0.0.7:43210", "ipv4:1.127.0.0:43210", "ipv6:%5B2001:db8::1%5D:1",
                             "ipv6:[::2]:43210", "127.0.0.1:43210", "vsock:127.0.0.1", "ipv4:127.0.0.1.example:1"}) {
    EXPECT_FALSE(IsLocalPeer(remote)) << remote;
    ExpectError(CheckLocalPeer(remote, "ExportTarget"), absl::StatusCode::kPermissionDenied,
                {"ExportTarget", "unix socket or loopback", remote});
  }
}

}  // namespace
}  // namespace weightstream
