// weightstream-server: flags, signals, and nothing else.
#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/allocator.h"
#include "kernels/host_device.h"
#include "server/log.h"
#include "server/server.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7070",
          "Address to serve on: HOST:PORT (port 0 takes a free one), [V6]:PORT or unix:/PATH.");
ABSL_FLAG(std::string, data_dir, "/dev/shm/weightstream",
          "Folder of the versions: DIR/MODEL/VERSION/model.safetensors, and DIR/MODEL/current. One server a folder.");
ABSL_FLAG(std::string, device, "host",
          "Where weights end: host (files in --data-dir), or host-staged (the same through the staging ring, as a GPU "
          "would; for tests).");
ABSL_FLAG(double, bucket_mib, 4, "Most payload MiB that one chunk may carry; senders obey it.");
ABSL_FLAG(double, staging_mib, 64, "MiB of pinned staging buffers, for devices that need them.");
ABSL_FLAG(uint64_t, keep_versions, 2, "Committed versions kept a model, the current one among them.");
ABSL_FLAG(double, max_model_gib, 0, "Most GiB of one version; 0 is what the data directory holds.");
ABSL_FLAG(uint64_t, max_models, 1024, "Most models at a time.");
ABSL_FLAG(uint64_t, max_manifest_tensors, 1'000'000, "Most tensors of one version.");
ABSL_FLAG(double, max_manifest_mib, 64, "Most MiB of a BeginUpdate message.");
ABSL_FLAG(double, idle_update_seconds, 600, "An update that gets no chunk for this long is aborted.");
ABSL_FLAG(double, drain_seconds, 30, "At SIGTERM, how long updates in flight may take to finish.");
ABSL_FLAG(double, keepalive_seconds, 10, "A silent peer is asked after this long, and has as long again to answer.");
ABSL_FLAG(int, max_threads, 256, "Most calls served at once.");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning or error.");
ABSL_FLAG(std::string, log_format, "text", "text (key=value) or json, one line an event, on stderr.");

namespace {

using weightstream::Limits;

constexpr char kUsage[] =
    R"(weightstream-server receives model weights over gRPC and makes them visible as whole versions.

  weightstream-server --listen=127.0.0.1:7070 --data-dir=/dev/shm/weightstream

It prints `listening on ADDRESS` on stdout once it serves. SIGTERM or SIGINT: updates in flight may finish
(--drain-seconds), then it ends. A second signal ends it at once.

Exit codes: 0 stopped by a signal, 1 could not start, 2 bad usage.)";

constexpr double kMiB = 1 << 20;
constexpr double kGiB = 1 << 30;
constexpr uint64_t kLargestBucket = uint64_t{1} << 30;

// A flag in MiB or GiB as bytes.
uint64_t Bytes(double amount, double unit) { return amount <= 0 ? 0 : static_cast<uint64_t>(amount * unit); }

absl::StatusOr<Limits> LimitsFromFlags() {
  Limits limits;
  limits.bucket_bytes = Bytes(absl::GetFlag(FLAGS_bucket_mib), kMiB);
  limits.staging_bytes = Bytes(absl::GetFlag(FLAGS_staging_mib), kMiB);
  limits.keep_versions = absl::GetFlag(FLAGS_keep_versions);
  limits.model_bytes = Bytes(absl::GetFlag(FLAGS_max_model_gib), kGiB);
  limits.models = absl::GetFlag(FLAGS_max_models);
  limits.manifest_tensors = absl::GetFlag(FLAGS_max_manifest_tensors);
  limits.manifest_bytes = Bytes(absl::GetFlag(FLAGS_max_manifest_mib), kMiB);
  limits.idle_update = absl::Seconds(absl::GetFlag(FLAGS_idle_update_seconds));
  limits.drain = absl::Seconds(absl::GetFlag(FLAGS_drain_seconds));
  limits.keepalive_time = limits.keepalive_timeout = absl::Seconds(absl::GetFlag(FLAGS_keepalive_seconds));
  limits.threads = absl::GetFlag(FLAGS_max_threads);
  if (limits.bucket_bytes == 0 || limits.bucket_bytes > kLargestBucket) {
    return absl::InvalidArgumentError("--bucket-mib must be above 0 and at most 1024");
  }
  if (limits.keep_versions == 0) return absl::InvalidArgumentError("--keep-versions must be at least 1");
  if (limits.manifest_bytes == 0) return absl::InvalidArgumentError("--max-manifest-mib must be above 0");
  if (limits.threads < 4) return absl::InvalidArgumentError("--max-threads must be at least 4");
  if (limits.idle_update <= absl::ZeroDuration() || limits.keepalive_time <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("--idle-update-seconds and --keepalive-seconds must be above 0");
  }
  return limits;
}

absl::StatusOr<std::unique_ptr<weightstream::Device>> DeviceFromFlag(const std::string& device) {
  if (device == "host") return weightstream::NewHostDevice();
  if (device == "host-staged") {
    weightstream::HostDeviceOptions options;
    options.device_like = true;
    return weightstream::NewHostDevice(options);
  }
  if (absl::StartsWith(device, "cuda")) {
    return absl::FailedPreconditionError(
        absl::StrCat("--device=", device, ": this binary was built without CUDA; use --device=host"));
  }
  return absl::InvalidArgumentError(absl::StrCat("--device=", device, " is neither host nor host-staged"));
}

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "weightstream-server: %s\n", std::string(status.message()).c_str());
  return code;
}

// Blocks SIGINT and SIGTERM in every thread, so that AwaitSignal gets them. Call before any thread starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

int Run() {
  const sigset_t signals = BlockSignals();
  std::signal(SIGPIPE, SIG_IGN);
  absl::StatusOr<Limits> limits = LimitsFromFlags();
  if (!limits.ok()) return Fail(limits.status(), 2);
  const std::string format = absl::GetFlag(FLAGS_log_format);
  if (format != "text" && format != "json")
    return Fail(absl::InvalidArgumentError("--log-format must be text or json"), 2);
  const absl::Status logging =
      weightstream::StartLogging(absl::GetFlag(FLAGS_log_level),
                                 format == "json" ? weightstream::LogFormat::kJson : weightstream::LogFormat::kText);
  if (!logging.ok()) return Fail(logging, 2);
  absl::StatusOr<std::unique_ptr<weightstream::Device>> device = DeviceFromFlag(absl::GetFlag(FLAGS_device));
  if (!device.ok()) return Fail(device.status(), absl::IsInvalidArgument(device.status()) ? 2 : 1);

  weightstream::ServerOptions options;
  options.listen = absl::GetFlag(FLAGS_listen);
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  options.limits = *limits;
  absl::StatusOr<std::unique_ptr<weightstream::Server>> server =
      weightstream::Server::Start(options, *std::move(device));
  if (!server.ok()) return Fail(server.status(), 1);
  std::printf("listening on %s\n", (*server)->address().c_str());
  std::fflush(stdout);

  int signal = 0;
  sigwait(&signals, &signal);
  // From here on a second signal has its usual effect.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  (*server)->Shutdown(absl::Now() + limits->drain);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  weightstream::TuneAllocatorForStreaming();
  absl::SetProgramUsageMessage(kUsage);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    return Fail(
        absl::InvalidArgumentError(absl::StrCat("unexpected argument '", rest[1], "'; see weightstream-server --help")),
        2);
  }
  return Run();
}
