#include "server/metrics_endpoint.h"

#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/metrics.h"
#include "tensor/file_descriptor.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// More than are taken in and wait with the kernel together.
constexpr size_t kMostSilent = 40;

std::unique_ptr<MetricsEndpoint> StartOn(const std::string& listen, MetricsEndpoint::Collect collect) {
  absl::StatusOr<std::unique_ptr<MetricsEndpoint>> endpoint = MetricsEndpoint::Start(listen, std::move(collect));
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  return endpoint.ok() ? *std::move(endpoint) : nullptr;
}

std::vector<prometheus::MetricFamily> Nothing() { return {}; }

std::string Body(const MetricsEndpoint& endpoint, const char* path) {
  httplib::Client client("http://" + endpoint.address());
  // As long as Prometheus waits.
  client.set_read_timeout(10);
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

// Connects again and again and says nothing, until as many are taken in as ever are. What finds no room is under way;
// each that is let go for its silence is made up for.
std::vector<FileDescriptor> ConnectSilently(const MetricsEndpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string& text = endpoint.address();
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(text.substr(text.rfind(':') + 1))));
  std::vector<FileDescriptor> silent;
  const absl::Duration deadline = MonotonicNow() + absl::Seconds(30);
  while (TakenIn(endpoint) < kMostMetricsConnections) {
    if (MonotonicNow() > deadline) {
      ADD_FAILURE() << TakenIn(endpoint) << " are taken in";
      break;
    }
    if (silent.size() == kMostSilent) silent.erase(silent.begin());
    silent.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(silent.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
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
