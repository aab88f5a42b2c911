#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/staging.h"
#include "proto/chunk_codec.h"
#include "server/commit_hook_runner.h"
#include "server/connection_gate.h"
#include "server/descriptor_limit.h"
#include "server/device_versions.h"
#include "server/exposure.h"
#include "server/file_versions.h"
#include "server/health.h"
#include "server/listen_error.h"
#include "server/listening_sockets.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/metrics_endpoint.h"
#include "server/metrics_gauges.h"
#include "server/model_registry.h"
#include "server/model_store.h"
#include "server/open_calls.h"
#include "server/poller.h"
#include "server/reflection_calls.h"
#include "server/server_security.h"
#include "server/service.h"
#include "server/unsent_replies.h"
#include "tensor/file_descriptor.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// How often idle updates, and certificates and tokens that were replaced, are looked for, and how fast streams and
// updates are: a small part of the shortest useful limit.
constexpr absl::Duration kIdleCheck = absl::Seconds(1);

// What a sender may put into one HTTP/2 frame. The default of 16 KiB costs both sides four times as many, a twentieth
// of a push's rate; 256 KiB and 1 MiB were no faster than that.
constexpr int kFrameBytes = 64 << 10;

// Calls that are still open after a shutdown's deadline are cut; this is for their handlers to notice.
constexpr absl::Duration kCutPatience = absl::Seconds(5);

// What RFC 9113 advises not to go below: calls that wait for a thread are no reason to hold others back.
constexpr int kLeastConcurrentStreams = 100;

int ToMillis(absl::Duration duration) {
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(duration), std::numeric_limits<int>::max()));
}

std::chrono::system_clock::time_point ToChrono(absl::Time time) { return absl::ToChronoTime(time); }

class GrpcServer final : public Server {
 public:
  GrpcServer(ServerOptions options, std::unique_ptr<Device> device)
      : options_(std::move(options)), device_(std::move(device)) {}

  ~GrpcServer() override { Shutdown(absl::ZeroDuration()); }

  absl::Status Start();

  const std::string& address() const override { return address_; }
  void ReloadSecurity() override { security_->Reload(); }
  std::string metrics_address() const override { return metrics_endpoint_ ? metrics_endpoint_->address() : ""; }
  void Shutdown(absl::Duration patience) override;

 private:
  // Recovers what there is.
  absl::Status OpenMedium();
  absl::Status Listen();
  absl::Status ServeMetrics();
  void ConfigureConnections(grpc::ServerBuilder& builder) const;
  // Both until the end, each on a thread of its own: a token that was taken away must not wait for a model that is
  // busy.
  void WatchCallers();
  void WatchModels();
  // Calls it about once a second, until the end.
  void EachSecond(const std::function<void()>& look) ABSL_LOCKS_EXCLUDED(mutex_);
  void BecameCurrent(const std::string& model, uint64_t version, const std::string& update);
  // A model is SERVING while it has a whole version and the device works.
  void TellHealth(const std::string& model) ABSL_LOCKS_EXCLUDED(mutex_);
  // The device has failed for good: only a new process can use it, and who looks at health is to start one.
  void CheckDevice() ABSL_LOCKS_EXCLUDED(mutex_);

  const ServerOptions options_;
  // In the order of dependence: what is below uses what is above.
  std::unique_ptr<Device> device_;
  std::unique_ptr<ServerSecurity> security_;
  Metrics metrics_;
  // Null where the device keeps no files.
  std::unique_ptr<ModelStore> store_;
  std::unique_ptr<VersionMedium> medium_;
  std::unique_ptr<StagingRing> staging_;
  std::unique_ptr<ModelRegistry> registry_;
  // Null where nobody is to be told, and while the registry tells of what was recovered.
  std::unique_ptr<CommitHookRunner> hooks_;
  std::unique_ptr<OpenCalls> calls_;
  TargetClaims claims_;
  // Apart, since reflection asks for no token: strangers must not take the streams of others.
  std::unique_ptr<OpenCalls> reflection_calls_;
  std::unique_ptr<UnsentReplies> replies_;
  std::unique_ptr<WeightStreamService> service_;
  Health health_;
  Poller poller_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ConnectionGate> gate_;
  std::string address_;
  std::unique_ptr<MetricsEndpoint> metrics_endpoint_;
  // Wakes the threads that look for what changes by itself, at the end.
  const FileDescriptor stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::thread callers_watch_;
  std::thread models_watch_;

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool device_failed_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status GrpcServer::Start() {
  if (absl::Status checked = CheckListenAddress(options_.listen); !checked.ok()) return checked;
  if (absl::Status checked = CheckMetricsExposure(options_.metrics_listen, options_.security); !checked.ok()) {
    return checked;
  }
  absl::StatusOr<std::unique_ptr<ServerSecurity>> security = ServerSecurity::Load(options_.listen, options_.security);
  if (!security.ok()) return security.status();
  security_ = *std::move(security);
  if (absl::Status opened = OpenMedium(); !opened.ok()) return opened;
  if (device_->needs_staging()) {
    absl::StatusOr<std::unique_ptr<StagingRing>> staging =
        StagingRing::Create(*device_, options_.limits.staging_bytes, options_.limits.bucket_bytes);
    if (!staging.ok()) return staging.status();
    staging_ = *std::move(staging);
  }
  registry_ = std::make_unique<ModelRegistry>(
      *medium_, options_.limits, metrics_,
      ModelRegistry::Observers{[this](const std::string& model, uint64_t version, const std::string& update) {
                                 BecameCurrent(model, version, update);
                               },
                               [this](const std::string& model) { TellHealth(model); }});
  if (options_.on_commit.enabled()) {
    hooks_ = std::make_unique<CommitHookRunner>(options_.on_commit, NewCommitHook(options_.on_commit));
  }
  const Limits& limits = options_.limits;
  calls_ = std::make_unique<OpenCalls>(OpenCalls::Bounds{.most = std::max(1, limits.threads * 3 / 4),
                                                         .most_per_peer = limits.peer_streams,
                                                         .patience = limits.silent_call,
                                                         .peer_bytes_per_second = limits.peer_bytes_per_second,
                                                         .least_bytes_per_second = limits.least_bytes_per_second});
  reflection_calls_ = std::make_unique<OpenCalls>(OpenCalls::Bounds{
      .most = std::max(1, limits.threads / 16), .most_per_peer = limits.peer_streams, .patience = limits.silent_call});
  replies_ =
      std::make_unique<UnsentReplies>(UnsentReplies::Bounds{.most_per_peer = std::max(1, limits.threads / 2),
                                                            .most_overdue_per_peer = std::max(1, limits.threads / 16),
                                                            .patience = limits.silent_call,
                                                            .least_bytes_per_second = limits.least_bytes_per_second,
                                                            .bytes = limits.reply_bytes});
  service_ = std::make_unique<WeightStreamService>(
      CallEnvironment{registry_.get(), medium_.get(), calls_.get(), replies_.get(), &claims_, device_.get(),
                      staging_.get(), hooks_.get(), &options_.limits, security_->authorizer(), &metrics_, &poller_});
  // Nobody was there to be told while it was recovered.
  for (const std::shared_ptr<Model>& model : registry_->All()) {
    if (model->Snapshot().current != 0) TellHealth(model->name());
  }
  if (absl::Status listening = Listen(); !listening.ok()) return listening;
  if (absl::Status serving = ServeMetrics(); !serving.ok()) return serving;
  for (const StoredModel& model : medium_->Recovered()) {
    LogInfo("recovered", {{"model", model.name}, {"current", model.current}, {"versions", model.versions.size()}});
  }
  callers_watch_ = std::thread([this] { WatchCallers(); });
  models_watch_ = std::thread([this] { WatchModels(); });
  return absl::OkStatus();
}

absl::Status GrpcServer::OpenMedium() {
  if (!device_->keeps_files()) {
    if (options_.on_commit.names_files()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--on-commit tells the inference server of a file or a folder, and ", device_->name(),
          " keeps none; give a body without {path} and {folder} (--on-commit-body), or use --device=host"));
    }
    medium_ = std::make_unique<DeviceVersions>(*device_);
    LogInfo("versions_in_memory", {{"device", device_->name()}, {"note", "they go with this process"}});
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<ModelStore>> store = ModelStore::Open(options_.data_dir);
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  for (const std::string& warning : store_->warnings()) LogWarning("recovery", {{"warning", warning}});
  ArenaSupply::Options arenas;
  arenas.work_ahead = options_.limits.spare_arenas;
  arenas.promised_bytes = [this] { return registry_ == nullptr ? 0 : registry_->PromisedBytes(); };
  arenas.patience = options_.limits.operation_wait;
  medium_ = std::make_unique<FileVersions>(*store_, *device_, std::move(arenas));
  return absl::OkStatus();
}

absl::Status GrpcServer::Listen() {
  // Both are read as a server is built, and once per process is enough. Health is ours (server/health.h).
  static const bool plugins_ready = [] {
    grpc::EnableDefaultHealthCheckService(false);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(plugins_ready);
  const Limits& limits = options_.limits;
  const DescriptorBudget budget = AllowConnections(limits.connections);
  absl::StatusOr<std::unique_ptr<ListeningSockets>> sockets =
      ListeningSockets::Open(options_.listen, limits.keepalive_timeout);
  if (!sockets.ok()) return sockets.status();
  grpc::ServerBuilder builder;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor =
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, security_->credentials());
  ConfigureConnections(builder);
  builder.RegisterService(service_.get());
  builder.RegisterService(health_.service());
  // gRPC's synchronous service then waits for calls only, and for connections not at all.
  std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(NewReflectionBounds(*reflection_calls_));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::InternalError("gRPC refused to start a server; its own messages, before this one, may say why");
  }
  health_.Start(*queue);
  poller_.Start(std::move(queue));
  address_ = (*sockets)->address();
  const ConnectionGate::Options gate_options{
      {budget.connections, limits.peer_connections}, budget.waiting, limits.handshake};
  absl::StatusOr<std::unique_ptr<ConnectionGate>> gate =
      ConnectionGate::Open(*std::move(sockets), std::move(acceptor), gate_options, metrics_);
  if (!gate.ok()) return gate.status();
  gate_ = *std::move(gate);
  return absl::OkStatus();
}

absl::Status GrpcServer::ServeMetrics() {
  if (options_.metrics_listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsEndpoint>> endpoint = MetricsEndpoint::Start(options_.metrics_listen, [this] {
    std::vector<prometheus::MetricFamily> families = metrics_.collectable().Collect();
    for (std::vector<prometheus::MetricFamily>& part :
         std::array{ModelMetrics(*registry_, absl::Now()), CommitHookMetrics(*registry_, hooks_.get()),
                    DeviceMetrics(*device_), StagingMetrics(staging_.get()), ProcessMetrics()}) {
      std::move(part.begin(), part.end(), std::back_inserter(families));
    }
    return families;
  });
  if (!endpoint.ok()) return endpoint.status();
  metrics_endpoint_ = *std::move(endpoint);
  LogInfo("metrics", {{"address", metrics_endpoint_->address()}});
  return absl::OkStatus();
}

void GrpcServer::ConfigureConnections(grpc::ServerBuilder& builder) const {
  const Limits& limits = options_.limits;
  // A manifest, or a chunk with its header: whichever may be larger. Replies go to whoever asked and are not limited
  // here.
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<uint64_t>(
      std::max(limits.manifest_bytes, limits.bucket_bytes + kMaxChunkHeaderBytes), std::numeric_limits<int>::max())));
  builder.SetMaxSendMessageSize(-1);
  // Each call has a thread, which may wait: the number of threads is the number of calls.
  grpc::ResourceQuota quota("weightstream");
  quota.SetMaxThreads(limits.threads);
  quota.Resize(limits.receive_bytes);
  builder.SetResourceQuota(quota);
  // Without the probe of the bandwidth-delay product: it takes what waits in our own queue for what the line holds, and
  // grows the window, and with it the memory of each connection, to some 40 MiB on a busy machine. Senders far away use
  // several streams instead (client/pace.h).
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, static_cast<int>(limits.window_bytes));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
  // gRPC inflates a message before it looks at its size: a small one could take all memory. Weights hardly compress
  // anyway.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, ToMillis(limits.handshake));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, ToMillis(limits.idle_connection));
  if (!options_.security.tls_client_ca.empty()) {
    // The grace is for calls in flight, and without an end: a push may take longer than any.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, ToMillis(limits.connection_age));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, std::numeric_limits<int>::max());
  }
  // More than can be served would only be kept in memory; a client holds the others back by itself.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, std::max(limits.threads, kLeastConcurrentStreams));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, ToMillis(limits.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ToMillis(limits.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Clients ping at this pace to find a dead server; gRPC would take more than one in five minutes for an attack.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
}

void GrpcServer::BecameCurrent(const std::string& model, uint64_t version, const std::string& update) {
  TellHealth(model);
  if (hooks_ == nullptr || !options_.on_commit.tells_of(model)) return;
  // Absolute, for who has another working directory.
  const auto absolute = [](const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path).string();
  };
  hooks_->BecameCurrent({model, version, absolute(medium_->Folder(model, version)),
                         absolute(medium_->Path(model, version)), update, LogTrace::Current()});
}

void GrpcServer::TellHealth(const std::string& model) {
  // While it is made, the registry tells of what was recovered; Start does so then.
  if (registry_ == nullptr) return;
  // As it is now: calls of this for one model may overtake each other.
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<std::shared_ptr<Model>> found = registry_->Find(model);
  health_.Set(model, !device_failed_ && found.ok() && (*found)->Snapshot().whole());
}

void GrpcServer::CheckDevice() {
  const absl::Status health = device_->Health();
  if (health.ok()) return;
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(device_failed_, true)) return;
  }
  health_.Set("", false);
  LogError("device_failed", {{"device", device_->name()}, {"error", health.ToString()}});
  for (const std::shared_ptr<Model>& model : registry_->All()) TellHealth(model->name());
  if (options_.on_device_failed) options_.on_device_failed();
}

void GrpcServer::WatchCallers() {
  EachSecond([this] {
    security_->Reload();
    calls_->Review();
    reflection_calls_->Review();
    replies_->Review();
  });
}

void GrpcServer::WatchModels() {
  EachSecond([this] {
    // Waits for a model that is busy, and for its memory to be freed.
    registry_->Review();
    CheckDevice();
  });
}

void GrpcServer::EachSecond(const std::function<void()>& look) {
  pollfd stop{stop_.get(), POLLIN, 0};
  for (;;) {
    // The kernel's wait knows no wall clock, and Abseil's does: one that is set back by an hour would last an hour
    // longer.
    ::poll(&stop, 1, ToMillis(kIdleCheck));
    {
      absl::MutexLock lock(&mutex_);
      if (stopped_) return;
    }
    look();
  }
}

void GrpcServer::Shutdown(absl::Duration patience) {
  const absl::Duration deadline = MonotonicNow() + patience;
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  ::eventfd_write(stop_.get(), 1);
  if (callers_watch_.joinable()) callers_watch_.join();
  if (models_watch_.joinable()) models_watch_.join();
  if (server_ == nullptr) return;
  LogInfo("shutting_down", {{"address", address_}});
  // Load balancers look elsewhere from now on; senders that are at work may finish.
  // What they commit does not make a model SERVING any more.
  health_.StopServing();
  service_->StopWatches();
  const bool drained = registry_->Drain(patience);
  if (!drained) registry_->AbortAll("the server is shutting down");
  if (gate_ != nullptr) gate_->Close();
  health_.EndWatches();
  const absl::Duration left = deadline - MonotonicNow();
  server_->Shutdown(ToChrono(absl::Now() + std::max(left, drained ? absl::ZeroDuration() : kCutPatience)));
  server_->Wait();
  health_.AwaitEnd();
  poller_.Stop();
  // The last commit may just have been made.
  if (hooks_ != nullptr) hooks_->Stop(deadline - MonotonicNow());
  medium_->Stop();
  if (metrics_endpoint_ != nullptr) metrics_endpoint_->Stop();
  LogInfo("stopped", {{"drained", drained}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options, std::unique_ptr<Device> device) {
  auto server = std::make_unique<GrpcServer>(std::move(options), std::move(device));
  if (absl::Status started = server->Start(); !started.ok()) return started;
  return server;
}

}  // namespace weightstream
