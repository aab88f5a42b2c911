#include "server/metrics_endpoint.h"

#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "server/metrics.h"
#include "tensor/file_descriptor.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// More than are taken in and wait with the kernel together.
constexpr size_t kMostSilent = 40;
// Prometheus waits 10 seconds; so many that a busy machine is not mistaken for a held endpoint.
constexpr time_t kScraperSeconds = 60;

std::unique_ptr<MetricsEndpoint> StartOn(const std::string& listen, MetricsEndpoint::Collect collect) {
  absl::StatusOr<std::unique_ptr<MetricsEndpoint>> endpoint = MetricsEndpoint::Start(listen, std::move(collect));
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  return endpoint.ok() ? *std::move(endpoint) : nullptr;
}

std::vector<prometheus::MetricFamily> Nothing() { return {}; }

std::string Body(const MetricsEndpoint& endpoint, const char* path) {
  httplib::Client client("http://" + endpoint.address());
  client.set_read_timeout(kScraperSeconds);
  const httplib::Result result = client.Get(path);
  if (!result) return absl::StrCat("no answer: ", httplib::to_string(result.error()));
  return result->status == 200 ? result->body : absl::StrCat("status ", result->status);
}

TEST(MetricsEndpoint, ServesWhatWasCounted) {
  Metrics metrics;
  metrics.ChunkReceived(1000);
  metrics.ChunkReceived(500);
  metrics.ChunkSent(7);
  metrics.CallEnded("CommitUpdate", absl::StatusCode::kOk);
  metrics.CallEnded("CommitUpdate", absl::StatusCode::kFailedPrecondition);
  metrics.UpdateEnded(UpdateOutcome::kSuperseded);
  metrics.PhaseTook(UpdatePhase::kReceive, absl::Milliseconds(200));
  const auto endpoint = StartOn("127.0.0.1:0", [&] { return metrics.collectable().Collect(); });
  ASSERT_NE(endpoint, nullptr);
  const std::string body = Body(*endpoint, "/metrics");
  for (const char* line :
       {"# TYPE weightstream_received_bytes_total counter", "weightstream_received_bytes_total 1500",
        "weightstream_received_chunks_total 2", "weightstream_sent_bytes_total 7",
        R"(weightstream_calls_total{code="OK",method="CommitUpdate"} 1)",
        R"(weightstream_calls_total{code="FAILED_PRECONDITION",method="CommitUpdate"} 1)",
        R"(weightstream_updates_total{outcome="superseded"} 1)", R"(weightstream_updates_total{outcome="committed"} 0)",
        R"(weightstream_update_phase_seconds_bucket{phase="receive",le="0.1"} 0)",
        R"(weightstream_update_phase_seconds_bucket{phase="receive",le="0.5"} 1)",
        R"(weightstream_update_phase_seconds_count{phase="commit"} 0)"}) {
    EXPECT_TRUE(absl::StrContains(body, line)) << line << " is not in\n" << body;
  }
}

TEST(MetricsEndpoint, ServesNothingElse) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  EXPECT_EQ(Body(*endpoint, "/"), "status 404");
  EXPECT_EQ(Body(*endpoint, "/../etc/passwd"), "status 404");
}

TEST(MetricsEndpoint, RefusesAnAddressThatItCannotHave) {
  for (const char* listen : {"", "9090", ":9090", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http"}) {
    const absl::Status status = MetricsEndpoint::Start(listen, Nothing).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat("--metrics-listen=", listen))) << status;
  }
  const auto first = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(first, nullptr);
  const absl::Status taken = MetricsEndpoint::Start(first->address(), Nothing).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable) << taken;
}

// The other ends of this process's TCP connections to the port: those that the endpoint has taken in.
size_t TakenIn(const MetricsEndpoint& endpoint) {
  const std::string port = endpoint.address().substr(endpoint.address().rfind(':'));
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    sockaddr_in address{};
    socklen_t length = sizeof(address);
    sockaddr_in peer{};
    socklen_t peer_length = sizeof(peer);
    const int fd = std::stoi(entry.path().filename());
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) continue;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) continue;
    if (address.sin_family == AF_INET && absl::StrCat(":", ntohs(address.sin_port)) == port) ++count;
  }
  return count;
}

FileDescriptor ConnectTo(const MetricsEndpoint& endpoint, int flags) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string& text = endpoint.address();
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(text.substr(text.rfind(':') + 1))));
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return socket;
}

// Connects again and again and says nothing, until as many are taken in as ever are. What finds no room is under way;
// each that is let go for its silence is made up for.
std::vector<FileDescriptor> ConnectSilently(const MetricsEndpoint& endpoint) {
  std::vector<FileDescriptor> silent;
  const absl::Duration deadline = MonotonicNow() + absl::Seconds(30);
  while (TakenIn(endpoint) < kMostMetricsConnections) {
    if (MonotonicNow() > deadline) {
      ADD_FAILURE() << TakenIn(endpoint) << " are taken in";
      break;
    }
    if (silent.size() == kMostSilent) silent.erase(silent.begin());
    silent.push_back(ConnectTo(endpoint, SOCK_NONBLOCK));
  }
  return silent;
}

TEST(MetricsEndpoint, TakesFewConnectionsInAndServesOnceTheyHaveGone) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  std::vector<FileDescriptor> silent = ConnectSilently(*endpoint);
  // Long enough for the others to come in, were they let in.
  const absl::Duration later = MonotonicNow() + absl::Milliseconds(300);
  while (MonotonicNow() < later) ASSERT_LE(TakenIn(*endpoint), static_cast<size_t>(kMostMetricsConnections));
  silent.clear();
  EXPECT_EQ(Body(*endpoint, "/metrics"), "");
}

// Each of them would hold a thread until it goes.
TEST(MetricsEndpoint, AnswersAScraperBesideConnectionsThatStaySilent) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  const std::vector<FileDescriptor> silent = ConnectSilently(*endpoint);
  EXPECT_EQ(Body(*endpoint, "/metrics"), "");
}

// What keeps a connection from being idle without getting on: `act` does a little at each of them, again and again,
// until this is gone.
class Trickle {
 public:
  Trickle(std::vector<FileDescriptor> sockets, std::function<void(int)> act)
      : sockets_(std::move(sockets)), thread_([this, act = std::move(act)] {
          do {
            for (const FileDescriptor& socket : sockets_) act(socket.get());
          } while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
        }) {}
  ~Trickle() {
    stop_.Notify();
    thread_.join();
  }

 private:
  const std::vector<FileDescriptor> sockets_;
  absl::Notification stop_;
  std::thread thread_;
};

TEST(MetricsEndpoint, AnswersAScraperBesideRequestsThatNeverEnd) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  const Trickle trickle(ConnectSilently(*endpoint), [](int socket) { ::send(socket, "G", 1, MSG_NOSIGNAL); });
  EXPECT_EQ(Body(*endpoint, "/metrics"), "");
}

// Nor does it hold a thread to send endless bytes of a header at once.
TEST(MetricsEndpoint, LetsGoOfARequestThatIsTooLarge) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  const FileDescriptor socket = ConnectTo(*endpoint, 0);
  const std::string part(size_t{64} << 10, 'G');
  // Ended by the endpoint; the kernel's buffers take some of it.
  for (uint64_t sent = 0; ::send(socket.get(), part.data(), part.size(), MSG_NOSIGNAL) > 0; sent += part.size()) {
    ASSERT_LT(sent, uint64_t{1} << 30);
  }
}

// Metrics that no socket buffer holds.
std::vector<prometheus::MetricFamily> Much() {
  prometheus::MetricFamily family;
  family.name = "much";
  family.type = prometheus::MetricType::Untyped;
  family.help = std::string(size_t{8} << 20, 'x');
  return {family};
}

// A connection on which the answer has begun, of which the kernel holds little.
FileDescriptor ReadTheFirstByte(const MetricsEndpoint& endpoint) {
  const std::string request = "GET /metrics HTTP/1.1\r\n\r\n";
  const absl::Duration deadline = MonotonicNow() + absl::Seconds(30);
  // Again, if this machine was too busy to ask in time.
  while (MonotonicNow() < deadline) {
    FileDescriptor socket = ConnectTo(endpoint, 0);
    const int few_bytes = 4096;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &few_bytes, sizeof(few_bytes));
    ::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL);
    char first = 0;
    if (::recv(socket.get(), &first, 1, 0) == 1) return socket;
  }
  ADD_FAILURE() << "no answer";
  return FileDescriptor();
}

TEST(MetricsEndpoint, AnswersAScraperBesideOnesThatReadALittleAtATime) {
  std::atomic<bool> much{true};
  const auto endpoint = StartOn("127.0.0.1:0", [&] { return much.load() ? Much() : Nothing(); });
  ASSERT_NE(endpoint, nullptr);
  std::vector<FileDescriptor> slow;
  while (slow.size() + 1 < kMostMetricsConnections) slow.push_back(ReadTheFirstByte(*endpoint));
  much = false;
  const Trickle trickle(std::move(slow), [](int socket) {
    std::array<char, 4096> read{};
    ::recv(socket, read.data(), read.size(), MSG_DONTWAIT);
  });
  EXPECT_EQ(Body(*endpoint, "/metrics"), "");
}

TEST(MetricsEndpoint, StopsThoughItIsFull) {
  const auto endpoint = StartOn("127.0.0.1:0", Nothing);
  ASSERT_NE(endpoint, nullptr);
  const std::vector<FileDescriptor> silent = ConnectSilently(*endpoint);
  endpoint->Stop();
}

TEST(MetricsEndpoint, IsSilentOnceStopped) {
  std::atomic<int> scrapes{0};
  const auto endpoint = StartOn("127.0.0.1:0", [&] {
    ++scrapes;
    return Nothing();
  });
  ASSERT_NE(endpoint, nullptr);
  EXPECT_EQ(Body(*endpoint, "/metrics"), "");
  endpoint->Stop();
  EXPECT_TRUE(absl::StartsWith(Body(*endpoint, "/metrics"), "no answer"));
  EXPECT_EQ(scrapes.load(), 1);
  // At once after the start, before anything was served.
  StartOn("127.0.0.1:0", Nothing)->Stop();
}

}  // namespace
}  // namespace weightstream
