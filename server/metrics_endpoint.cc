#include "server/metrics_endpoint.h"

#include <httplib.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/host_port.h"
#include "server/scrape_stream.h"
#include "tensor/file_descriptor.h"

namespace weightstream {
namespace {

// A thread each: none that is taken in waits for another, and one in the kernel's queue behind as many that do nothing
// waits for their limits, less than the 10 seconds that Prometheus waits.
constexpr int kThreads = kMostMetricsConnections;
// A scraper asks as soon as it has connected.
constexpr absl::Duration kRequestTime = absl::Seconds(2);
// For a scraper that reads slowly.
constexpr absl::Duration kAnswerTime = absl::Seconds(3);
// Prometheus' text format, version 0.0.4.
constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

// How many connections are taken in at a time: one more than this is accepted, and waits.
class Admission {
 public:
  // Waits until there is room, or Open.
  void Enter() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Admission::HasRoom));
    ++inside_;
  }
  void Leave() {
    absl::MutexLock lock(&mutex_);
    --inside_;
  }
  // From now on nobody waits.
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }

 private:
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_ || inside_ < kMostMetricsConnections - 1; }

  absl::Mutex mutex_;
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

// httplib's pool takes in whatever connects. Here the thread that accepts waits.
class BoundedPool final : public httplib::TaskQueue {
 public:
  explicit BoundedPool(Admission& admission) : admission_(admission), pool_(kThreads) {}

  void enqueue(std::function<void()> connection) override {
    admission_.Enter();
    pool_.enqueue([this, connection = std::move(connection)] {
      connection();
      admission_.Leave();
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  Admission& admission_;
  httplib::ThreadPool pool_;
};

// Each connection is for one request: whoever keeps it keeps a thread.
class ScrapeServer final : public httplib::Server {
 private:
  bool process_and_close_socket(socket_t socket) override {
    const FileDescriptor owned(socket);
    ScrapeStream stream(socket, kRequestTime, kAnswerTime);
    bool closed = false;
    const bool answered = process_request(stream, /*close_connection=*/true, closed, nullptr);
    ::shutdown(socket, SHUT_RDWR);
    return answered;
  }
};

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
    admission_.Open();
    server_.stop();
    thread_.join();
  }

 private:
  void Configure() {
    server_.new_task_queue = [this] { return new BoundedPool(admission_); };
    // Not httplib's own, which let a stale process share the port.
    server_.set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    server_.set_payload_max_length(0);
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(prometheus::TextSerializer().prometheus::Serializer::Serialize(collect_()), kContentType);
    });
  }

  const Collect collect_;
  Admission admission_;
  ScrapeServer server_;
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
