#include "server/open_connections.h"

#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "gtest/gtest.h"
#include "tensor/file_descriptor.h"

namespace weightstream {
namespace {

using Verdict = OpenConnections::Verdict;

class OpenConnectionsTest : public testing::Test {
 protected:
  FileDescriptor Connect(const std::string& peer) {
    FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    connections_.Add(socket.get(), peer);
    return socket;
  }

  OpenConnections connections_{{.most = 4, .most_per_peer = 2}};
};

TEST_F(OpenConnectionsTest, EachPeerHasItsShareAndAllTogetherTheirs) {
  EXPECT_EQ(connections_.Judge("a"), Verdict::kWelcome);
  const FileDescriptor a1 = Connect("a");
  EXPECT_EQ(connections_.Judge("a"), Verdict::kWelcome);
  const FileDescriptor a2 = Connect("a");
  EXPECT_EQ(connections_.Judge("a"), Verdict::kTooManyOfPeer);
  const FileDescriptor b = Connect("b");
  const FileDescriptor c = Connect("c");
  EXPECT_EQ(connections_.Judge("b"), Verdict::kTooMany);
  EXPECT_EQ(connections_.Judge("d"), Verdict::kTooMany);
  EXPECT_EQ(connections_.size(), 4u);
}

TEST_F(OpenConnectionsTest, WhatIsClosedMakesRoom) {
  FileDescriptor a1 = Connect("a");
  const FileDescriptor a2 = Connect("a");
  EXPECT_EQ(connections_.Judge("a"), Verdict::kTooManyOfPeer);
  a1 = FileDescriptor();
  EXPECT_EQ(connections_.Judge("a"), Verdict::kWelcome);
  EXPECT_EQ(connections_.size(), 1u);
}

TEST_F(OpenConnectionsTest, ANumberThatIsGivenAgainIsNotTheSameConnection) {
  FileDescriptor a1 = Connect("a");
  const int number = a1.get();
  const FileDescriptor a2 = Connect("a");
  a1 = FileDescriptor();
  FileDescriptor again(::socket(AF_UNIX, SOCK_STREAM, 0));
  if (again.get() != number) {
    ASSERT_EQ(::dup2(again.get(), number), number);
    again = FileDescriptor(number);
  }
  EXPECT_EQ(connections_.Judge("a"), Verdict::kWelcome);
  EXPECT_EQ(connections_.size(), 1u);
}

}  // namespace
}  // namespace weightstream
