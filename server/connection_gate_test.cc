#include "server/connection_gate.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tensor/file_descriptor.h"

namespace weightstream {
namespace {

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr absl::Duration kPatience = absl::Seconds(60);

// Takes connections in gRPC's place, and keeps the gate's thread while it is held.
class HeldAcceptor final : public grpc::experimental::ExternalConnectionAcceptor {
 public:
  struct State {
    absl::Mutex mutex;
    bool held ABSL_GUARDED_BY(mutex) = false;
    std::vector<FileDescriptor> taken ABSL_GUARDED_BY(mutex);
  };

  explicit HeldAcceptor(State& state) : state_(state) {}

  void HandleNewConnection(NewConnectionParameters* parameters) override {
    absl::MutexLock lock(&state_.mutex);
    state_.taken.emplace_back(parameters->fd);
    state_.mutex.Await(absl::Condition(
        +[](State* state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state->mutex) { return !state->held; }, &state_));
  }

 private:
  State& state_;
};

class ConnectionGateTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = "/tmp/gate-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    OpenWith({.most = 100, .most_per_peer = 100});
  }

  absl::StatusOr<std::unique_ptr<ConnectionGate>> Open(const OpenConnections::Bounds& bounds) {
    auto sockets = ListeningSockets::Open("unix:" + folder_ + "/s", kPatience);
    if (!sockets.ok()) return sockets.status();
    // Two of one peer.
    const ConnectionGate::Options options{.bounds = bounds, .most_waiting = 4, .patience = kPatience};
    return ConnectionGate::Open(*std::move(sockets), std::make_unique<HeldAcceptor>(state_), options, metrics_);
  }

  void OpenWith(const OpenConnections::Bounds& bounds) {
    gate_.reset();
    auto gate = Open(bounds);
    ASSERT_TRUE(gate.ok()) << gate.status();
    gate_ = *std::move(gate);
  }

  // Of weightstream_connections_refused_total.
  double Refused(const std::string& reason) const {
    for (const prometheus::MetricFamily& family : metrics_.collectable().Collect()) {
      if (family.name != "weightstream_connections_refused_total") continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        if (metric.label.front().value == reason) return metric.counter.value;
      }
    }
    return -1;
  }

  void TearDown() override {
    Hold(false);
    gate_.reset();
    std::filesystem::remove_all(folder_);
  }

  FileDescriptor Connect() {
    FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string path = folder_ + "/s";
    std::memcpy(name.sun_path, path.data(), path.size());
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    return socket;
  }

  static void Speak(const FileDescriptor& socket) {
    EXPECT_EQ(::send(socket.get(), kPreface, sizeof(kPreface) - 1, MSG_NOSIGNAL),
              static_cast<ssize_t>(sizeof(kPreface) - 1));
  }

  static bool AwaitClosed(const FileDescriptor& socket) {
    pollfd closed{socket.get(), POLLRDHUP, 0};
    return ::poll(&closed, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) == 1;
  }

  void Hold(bool held) {
    absl::MutexLock lock(&state_.mutex);
    state_.held = held;
  }

  // Whether so many were passed on.
  bool AwaitTaken(size_t count) {
    absl::MutexLock lock(&state_.mutex);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex) { return state_.taken.size() >= count; };
    return state_.mutex.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(30));
  }

  HeldAcceptor::State state_;
  Metrics metrics_;
  std::string folder_;
  std::unique_ptr<ConnectionGate> gate_;
};

TEST_F(ConnectionGateTest, WhoHasSpokenIsNotClosedToMakeRoom) {
  const FileDescriptor first = Connect();
  const FileDescriptor holder = Connect();
  Hold(true);
  Speak(holder);
  ASSERT_TRUE(AwaitTaken(1));
  // The kernel tells of these in their order, all at once.
  const FileDescriptor newcomers[] = {Connect(), Connect(), Connect()};
  Speak(first);
  Hold(false);
  EXPECT_TRUE(AwaitTaken(2));
}

TEST_F(ConnectionGateTest, ANewcomerIsNotTakenForWhoeverHadItsNumber) {
  const FileDescriptor leaving = Connect();
  const FileDescriptor holder = Connect();
  Hold(true);
  Speak(holder);
  ASSERT_TRUE(AwaitTaken(1));
  const FileDescriptor newcomers[] = {Connect(), Connect(), Connect()};
  ::shutdown(leaving.get(), SHUT_RDWR);
  Hold(false);
  // The third takes the first one's place, and may be given the number of the one that has left.
  ASSERT_TRUE(AwaitClosed(newcomers[0]));
  Speak(newcomers[1]);
  ASSERT_TRUE(AwaitTaken(2));
  Speak(newcomers[2]);
  EXPECT_TRUE(AwaitTaken(3));
}

TEST_F(ConnectionGateTest, WhoIsTurnedAwayIsCountedByReason) {
  for (const char* reason : {"max_connections", "max_peer_connections", "no_descriptor", "silent"}) {
    EXPECT_EQ(Refused(reason), 0) << reason;
  }
  // A third that says nothing closes the first.
  const FileDescriptor silent[] = {Connect(), Connect(), Connect()};
  ASSERT_TRUE(AwaitClosed(silent[0]));
  EXPECT_EQ(Refused("silent"), 1);

  for (const auto& [bounds, reason] :
       {std::pair(OpenConnections::Bounds{.most = 1, .most_per_peer = 9}, "max_connections"),
        std::pair(OpenConnections::Bounds{.most = 9, .most_per_peer = 1}, "max_peer_connections")}) {
    OpenWith(bounds);
    const FileDescriptor welcome = Connect();
    Speak(welcome);
    const FileDescriptor refused = Connect();
    Speak(refused);
    ASSERT_TRUE(AwaitClosed(refused));
    EXPECT_EQ(Refused(reason), 1) << reason;
  }
}

TEST_F(ConnectionGateTest, AProcessWithoutDescriptorsIsToldSoAtTheStart) {
  gate_.reset();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // What the gate opens comes after its listening socket.
  for (const char* call : {"epoll_create1", "eventfd"}) {
    const absl::Cleanup restore = [&] { ::setrlimit(RLIMIT_NOFILE, &before); };
    const FileDescriptor lowest(::dup(STDERR_FILENO));
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(lowest.get()) + 1 + (std::string(call) == "epoll_create1" ? 1 : 2);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    const absl::Status status = Open({.most = 1, .most_per_peer = 1}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), call)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "ulimit -n")) << status;
  }
}

}  // namespace
}  // namespace weightstream
