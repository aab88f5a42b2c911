#include "server/metrics_endpoint.h"

#include <httplib.h>
#include <prometheus/text_serializer.h>

#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/host_port.h"

namespace weightstream {
namespace {

constexpr int kThreads = 2;
constexpr time_t kPatienceSeconds = 5;
// Prometheus' text format, version 0.0.4.
constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

class HttpEndpoint final : public MetricsEndpoint {
 public:
  explicit HttpEndpoint(Collect collect) : collect_(std::move(collect)) {}
  ~HttpEndpoint() override { Stop(); }

  absl::Status Listen(const std::string& listen) {
    const absl::optional<HostPort> parsed = ParseHostPort(listen);
    if (!parsed.has_value() || listen.front() == ':') {
      return absl::InvalidArgumentError(
          absl::StrCat("--metrics-listen=", listen, " is neither HOST:PORT nor [V6]:PORT (port 0 takes a free one)"));
    }
    Configure();
    int port = static_cast<int>(parsed->port);
    if (port == 0) {
      port = server_.bind_to_any_port(parsed->host);
    } else if (!server_.bind_to_port(parsed->host, port)) {
      port = -1;
    }
    if (port < 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on --metrics-listen=", listen,
                                                 ": the address is not of this machine, or the port is taken; name "
                                                 "another, or port 0 for a free one"));
    }
    address_ = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
    thread_ = std::thread([this] {
      server_.listen_after_bind();
      ended_.store(true);
    });
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  void Stop() override {
    if (!thread_.joinable()) return;
    // One that has not come to listen yet would not hear it.
    while (!server_.is_running() && !ended_.load()) std::this_thread::yield();
    server_.stop();
    thread_.join();
  }

 private:
  void Configure() {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    // Not httplib's own, which let a stale process share the port.
    server_.set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    server_.set_read_timeout(kPatienceSeconds);
    server_.set_write_timeout(kPatienceSeconds);
    server_.set_keep_alive_timeout(kPatienceSeconds);
    server_.set_payload_max_length(0);
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(prometheus::TextSerializer().prometheus::Serializer::Serialize(collect_()), kContentType);
    });
  }

  const Collect collect_;
  httplib::Server server_;
  std::string address_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(const std::string& listen, Collect collect) {
  auto endpoint = std::make_unique<HttpEndpoint>(std::move(collect));
  if (absl::Status listening = endpoint->Listen(listen); !listening.ok()) return listening;
  return endpoint;
}

}  // namespace weightstream
