#include "server/server_flags.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/system_runtime.h"
#include "kernels/host_device.h"
#include "kernels/host_room.h"
#include "server/commit_hook_flags.h"
#include "server/log.h"

namespace weightstream {
namespace {

constexpr double kMiB = 1 << 20;
constexpr double kGiB = 1 << 30;
constexpr uint64_t kMostMib = 1 << 20;
// gRPC counts message bytes in an int.
constexpr uint64_t kMostMessageMib = 2047;
constexpr uint64_t kMostSeconds = 86400 * 7;

FlagSpec Text(const char* name, const char* value, const char* help) {
  return {.name = name, .kind = FlagKind::kText, .value = value, .help = help};
}

FlagSpec Number(const char* name, uint64_t most, const char* help) {
  return {.name = name, .kind = FlagKind::kNumber, .value = "N", .help = help, .least = 1, .most = most};
}

FlagSpec Decimal(const char* name, uint64_t most, const char* help) {
  return {.name = name, .kind = FlagKind::kDecimal, .value = "N", .help = help, .most = most};
}

absl::Status OneOf(absl::string_view text, std::initializer_list<absl::string_view> allowed) {
  std::string list;
  for (const absl::string_view one : allowed) {
    if (text == one) return absl::OkStatus();
    absl::StrAppend(&list, list.empty() ? "" : ", ", one);
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is none of ", list));
}

FlagSpec LogLevel() {
  FlagSpec flag = Text("log-level", "LEVEL", "debug, info, warning or error. Default info.");
  flag.check = [](absl::string_view text) { return OneOf(text, {"debug", "info", "warning", "error"}); };
  return flag;
}

FlagSpec LogFormatFlag() {
  FlagSpec flag = Text("log-format", "FORMAT", "text (key=value) or json, one line an event, on stderr. Default text.");
  flag.check = [](absl::string_view text) { return OneOf(text, {"text", "json"}); };
  return flag;
}

FlagSpec ExitOnDeviceFailure() {
  return {
      .name = "exit-on-device-failure",
      .kind = FlagKind::kSwitch,
      .help =
          "End with code 1 once the GPU can no longer be used by this process, so that whoever runs it starts a new "
          "one. Default: stay, NOT_SERVING, and say why in status."};
}

std::vector<FlagSpec> SecurityFlags() {
  return {
      Text("tls-cert", "FILE",
           "Serve TLS (1.2 and 1.3) with this certificate chain: PEM, the server's own certificate first. The files of "
           "this and the next three flags are read again when they change."),
      Text("tls-key", "FILE", "Its private key: PEM, without a passphrase."),
      Text("tls-client-ca", "FILE",
           "Mutual TLS: every client must have a certificate that one of these CAs signed: PEM."),
      Text("auth-token-file", "FILE",
           "Who may do what: a line `ROLE MODELS token:TOKEN` (or sha256:HEX, or subject:NAME of a client certificate) "
           "each; ROLE is read, push or admin, MODELS are * or names separated by commas. See docs/security.md."),
      {.name = "allow-plaintext",
       .kind = FlagKind::kSwitch,
       .help = "Serve without TLS on an address that other hosts can reach. For networks that you trust."},
      {.name = "allow-plaintext-tokens",
       .kind = FlagKind::kSwitch,
       .help = "Take tokens without TLS over TCP, where others may read them. Unix sockets need no such word."},
      {.name = "allow-plaintext-metrics",
       .kind = FlagKind::kSwitch,
       .help =
           "Serve metrics, which are plain HTTP, on an address that other hosts can reach. Let only Prometheus reach "
           "it."},
  };
}

std::vector<FlagSpec> Flags() {
  std::vector<FlagSpec> flags = {
      Text(
          "listen", "ADDR:PORT",
          "Address to serve on: HOST:PORT (port 0 takes a free one), [V6]:PORT or unix:/PATH. Beyond loopback it wants "
          "TLS, or --allow-plaintext. Default 127.0.0.1:7070."),
      Text("metrics-listen", "ADDR:PORT",
           "Serve metrics for Prometheus at http://ADDR:PORT/metrics (port 0 takes a free one). Beyond loopback "
           "it wants --allow-plaintext-metrics. Default: not at all."),
      Text("data-dir", "DIR",
           "Folder of the versions: DIR/MODEL/VERSION/model.safetensors, and DIR/MODEL/current. One server a folder. "
           "Default "
           "/dev/shm/weightstream."),
      Text(
          "device", "DEVICE",
          "Where weights end: host (files in --data-dir), or cuda:N (the memory of that GPU, for as long as the server "
          "runs). For tests: host-staged (files, through the staging ring), and host-memory:N (N MiB of this process's "
          "memory, as a GPU's). Default host."),
      Decimal("bucket-mib", kMostMessageMib - 1,
              "Most payload MiB that one chunk may carry; senders obey it. A stream takes up to twice as much memory. "
              "Default 4."),
      Decimal("staging-mib", kMostMib, "MiB of staging buffers, for devices that need them. Default 64."),
      Number("copy-streams", kMostCopyStreams,
             "Streams on which copies to a GPU are queued; tests/gpu measures which number is best. Default 2."),
      ExitOnDeviceFailure(),
      Number("keep-versions", 1000, "Committed versions kept a model, the current one among them. Default 2."),
      {.name = "spare-arenas",
       .kind = FlagKind::kSwitch,
       .help =
           "After a commit, make memory of the same size ready for the next version, so that it is received at full "
           "speed; it goes when an update needs the room. Default true."},
      Decimal("max-model-gib", kMostMib, "Most GiB of one version. Default: what the data directory holds."),
      Number("max-models", 1'000'000, "Most models at a time. Default 1024."),
      Number("max-manifest-tensors", 100'000'000, "Most tensors of one version. Default 1000000."),
      Decimal("max-manifest-mib", kMostMessageMib, "Most MiB of a BeginUpdate message. Default 64."),
      Number("max-updates", 1'000'000,
             "Most updates in flight, of all models. When one more begins, one that has been silent for "
             "--silent-stream-seconds, or is too slow, gives way. Default 256."),
      Decimal("idle-update-seconds", kMostSeconds,
              "An update that gets no chunk for this long is aborted. Default 600."),
      Decimal("update-seconds", kMostSeconds,
              "An update that is under way for longer gives way to one that finds no place or no room. Default 3600."),
      Decimal(
          "least-kib-per-second", kMostMib,
          "An update that lands less over --silent-stream-seconds, or a peer's streams that move less for each four "
          "of them, give way to one that finds no place or no room. Default 64."),
      Number("max-connections", 1'000'000, "Most connections at once, of all peers. Default 1024."),
      Number("max-peer-connections", 1'000'000,
             "Most connections of one peer: an IPv4 address, an IPv6 network (/64), or all clients of a unix socket. "
             "Default 256."),
      Number("max-peer-streams", 100'000,
             "Most streams (Push, Pull, DigestModel, WatchModel) of one peer at once; all peers together have three "
             "quarters of --max-threads, half of them for watches and leases. Default 160."),
      Decimal("max-peer-mib-per-second", kMostMib,
              "Most payload MiB that one peer may push and pull in a second; its streams wait. Default: no limit."),
      Decimal("handshake-seconds", kMostSeconds,
              "How long a connection may take to say its first bytes, and then to finish its handshake. Default 20."),
      Decimal("idle-connection-seconds", kMostSeconds,
              "A connection without a call for this long is closed. Default 1800."),
      Decimal("max-connection-age-seconds", kMostSeconds,
              "With --tls-client-ca: a connection this old gets no new calls, so that its client connects again and "
              "shows a certificate that holds then. Calls in flight go on. Default 3600."),
      Decimal("silent-stream-seconds", kMostSeconds,
              "A Push stream without a first chunk, or a reader that takes nothing, is cut after this long. "
              "Default 30."),
      Decimal("drain-seconds", kMostSeconds, "At SIGTERM, how long updates in flight may take to finish. Default 20."),
      Decimal("keepalive-seconds", kMostSeconds,
              "A silent peer is asked after this long, and has as long again to answer. Default 10."),
      Number("max-threads", 100'000, "Most calls served at once, each on a thread of its own. Default 256."),
  };
  for (FlagSpec& flag : SecurityFlags()) flags.push_back(std::move(flag));
  for (FlagSpec& flag : CommitHookFlags()) flags.push_back(std::move(flag));
  flags.push_back(LogLevel());
  flags.push_back(LogFormatFlag());
  return flags;
}

uint64_t Bytes(const CommandLine& line, absl::string_view flag, double unit, uint64_t otherwise) {
  return line.Has(flag) ? static_cast<uint64_t>(line.Decimal(flag, 0) * unit) : otherwise;
}

absl::Duration Seconds(const CommandLine& line, absl::string_view flag, absl::Duration otherwise) {
  return line.Has(flag) ? absl::Seconds(line.Decimal(flag, 0)) : otherwise;
}

std::string TextOr(const CommandLine& line, absl::string_view flag, const std::string& otherwise) {
  return line.Has(flag) ? line.Text(flag) : otherwise;
}

Limits LimitsFrom(const CommandLine& line) {
  Limits limits;
  limits.bucket_bytes = Bytes(line, "bucket-mib", kMiB, limits.bucket_bytes);
  limits.staging_bytes = Bytes(line, "staging-mib", kMiB, limits.staging_bytes);
  limits.keep_versions = line.Number("keep-versions", limits.keep_versions);
  if (line.Has("spare-arenas")) limits.spare_arenas = line.Switch("spare-arenas");
  limits.model_bytes = Bytes(line, "max-model-gib", kGiB, limits.model_bytes);
  limits.models = line.Number("max-models", limits.models);
  limits.manifest_tensors = line.Number("max-manifest-tensors", limits.manifest_tensors);
  limits.manifest_bytes = Bytes(line, "max-manifest-mib", kMiB, limits.manifest_bytes);
  limits.idle_update = Seconds(line, "idle-update-seconds", limits.idle_update);
  limits.update_time = Seconds(line, "update-seconds", limits.update_time);
  limits.least_bytes_per_second = Bytes(line, "least-kib-per-second", 1024, limits.least_bytes_per_second);
  limits.updates = line.Number("max-updates", limits.updates);
  limits.connections = line.Number("max-connections", limits.connections);
  limits.peer_connections = line.Number("max-peer-connections", limits.peer_connections);
  limits.peer_streams = static_cast<int>(line.Number("max-peer-streams", limits.peer_streams));
  limits.peer_bytes_per_second = Bytes(line, "max-peer-mib-per-second", kMiB, limits.peer_bytes_per_second);
  limits.handshake = Seconds(line, "handshake-seconds", limits.handshake);
  limits.idle_connection = Seconds(line, "idle-connection-seconds", limits.idle_connection);
  limits.connection_age = Seconds(line, "max-connection-age-seconds", limits.connection_age);
  limits.silent_call = Seconds(line, "silent-stream-seconds", limits.silent_call);
  limits.drain = Seconds(line, "drain-seconds", limits.drain);
  limits.keepalive_time = limits.keepalive_timeout = Seconds(line, "keepalive-seconds", limits.keepalive_time);
  limits.threads = static_cast<int>(line.Number("max-threads", limits.threads));
  return limits;
}

absl::StatusOr<std::unique_ptr<Device>> OpenCuda(int index, int copy_streams) {
  CudaDeviceOptions options;
  options.index = index;
  options.copy_streams = copy_streams;
  absl::StatusOr<std::unique_ptr<CudaDevice>> device = CudaDevice::Open(SystemCudaRuntime(), options);
  if (!device.ok()) {
    return absl::Status(device.status().code(), absl::StrCat("--device: ", device.status().message()));
  }
  LogInfo("device", {{"device", (*device)->name()}, {"model", (*device)->model()}});
  return std::unique_ptr<Device>(*std::move(device));
}

// As a GPU, but for where its memory is.
std::unique_ptr<Device> OpenHostMemory(uint64_t mib) {
  HostDeviceOptions options;
  options.device_like = true;
  options.memory = std::make_shared<HostRoom>(mib << 20);
  return NewHostDevice(options);
}

SecurityOptions SecurityFrom(const CommandLine& line) {
  SecurityOptions security;
  security.tls_cert = line.Text("tls-cert");
  security.tls_key = line.Text("tls-key");
  security.tls_client_ca = line.Text("tls-client-ca");
  security.auth_token_file = line.Text("auth-token-file");
  security.allow_plaintext = line.Switch("allow-plaintext");
  security.allow_plaintext_tokens = line.Switch("allow-plaintext-tokens");
  security.allow_plaintext_metrics = line.Switch("allow-plaintext-metrics");
  return security;
}

}  // namespace

const CommandSpec& ServerCommand() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream-server",
      .summary = "Receives model weights over gRPC and makes them visible as whole versions",
      .description =
          "Receives model weights over gRPC and makes them visible as whole versions.\n"
          "It prints `listening on ADDRESS` on stdout once it serves. At SIGTERM or SIGINT updates in flight may "
          "finish "
          "(--drain-seconds), then it ends; a second signal ends it at once.",
      .examples = {"weightstream-server --listen=127.0.0.1:7070 --data-dir=/dev/shm/weightstream",
                   "weightstream-server --listen=0.0.0.0:7070 --tls-cert=tls.crt --tls-key=tls.key "
                   "--auth-token-file=tokens"},
      .flags = Flags(),
      .exclusive = {{"on-commit", "on-commit-exec"}, {"on-commit-body", "on-commit-preset"}},
      .needs = {{"tls-cert", "tls-key"},
                {"tls-key", "tls-cert"},
                {"tls-client-ca", "tls-cert"},
                {"max-connection-age-seconds", "tls-client-ca"},
                {"on-commit-body", "on-commit"},
                {"on-commit-preset", "on-commit"}},
      .done = "stopped by a signal",
      .failed = "could not start, or its device has failed (--exit-on-device-failure); the reason is on stderr",
  };
  return spec;
}

absl::StatusOr<ServerOptions> OptionsFrom(const CommandLine& line) {
  ServerOptions options;
  options.listen = TextOr(line, "listen", options.listen);
  options.metrics_listen = line.Text("metrics-listen");
  options.data_dir = TextOr(line, "data-dir", options.data_dir);
  options.limits = LimitsFrom(line);
  options.security = SecurityFrom(line);
  absl::StatusOr<CommitHookOptions> on_commit = CommitHookOptionsFrom(line);
  if (!on_commit.ok()) return on_commit.status();
  options.on_commit = *std::move(on_commit);
  // Decimals are above 0, and may still be less than a byte.
  if (options.limits.bucket_bytes == 0) return absl::InvalidArgumentError("--bucket-mib is less than one byte");
  if (line.Has("max-peer-mib-per-second") && options.limits.peer_bytes_per_second == 0) {
    return absl::InvalidArgumentError("--max-peer-mib-per-second is less than one byte; leave it out for no limit");
  }
  if (options.limits.manifest_bytes == 0) return absl::InvalidArgumentError("--max-manifest-mib is less than one byte");
  return options;
}

absl::StatusOr<std::unique_ptr<Device>> DeviceFrom(const CommandLine& line) {
  const std::string device = TextOr(line, "device", "host");
  if (device == "host") return NewHostDevice();
  if (device == "host-staged") {
    HostDeviceOptions options;
    options.device_like = true;
    return NewHostDevice(options);
  }
  uint64_t mib = 0;
  if (absl::StartsWith(device, "host-memory:") && absl::SimpleAtoi(absl::StripPrefix(device, "host-memory:"), &mib) &&
      mib > 0 && mib <= kMostMib) {
    return OpenHostMemory(mib);
  }
  int index = 0;
  if (absl::StartsWith(device, "cuda:") && absl::SimpleAtoi(absl::StripPrefix(device, "cuda:"), &index) && index >= 0) {
    return OpenCuda(index, static_cast<int>(line.Number("copy-streams", kDefaultCopyStreams)));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--device=", device, " is none of host, cuda:N (N a device's number), host-staged and host-memory:N"));
}

bool AsksForJsonLogs(absl::Span<const std::string> arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--log-format=json") return true;
    if (arguments[i] == "--log-format" && i + 1 < arguments.size() && arguments[i + 1] == "json") return true;
  }
  return false;
}

absl::Status StartLoggingFrom(const CommandLine& line) {
  return StartLogging(TextOr(line, "log-level", "info"),
                      line.Text("log-format") == "json" ? LogFormat::kJson : LogFormat::kText);
}

}  // namespace weightstream
