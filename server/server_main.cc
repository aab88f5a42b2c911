// weightstream-server: the command line, signals, and nothing else.
#include "server/server_main.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "flags/command_line.h"
#include "process/allocator.h"
#include "process/grpc_tuning.h"
#include "process/lock_checks.h"
#include "process/openssl_at_exit.h"
#include "server/log.h"
#include "server/server.h"
#include "server/server_flags.h"

namespace weightstream {
namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

// Why the server is to end, if not by somebody's signal.
std::atomic<bool> device_failed{false};

// For people; as a line of the log where that is read by programs.
int FailToStart(bool json, const absl::Status& status) {
  const bool usage = absl::IsInvalidArgument(status);
  const std::string error = absl::StrCat(status.message(), usage ? "; see weightstream-server --help" : "");
  if (json) {
    LogError("cannot_start", {{"error", error}});
  } else {
    std::fprintf(stderr, "weightstream-server: %s\n", error.c_str());
  }
  return usage ? kBadUsage : kFailed;
}

// Blocks SIGINT and SIGTERM in every thread, so that sigwait gets them. Call before any thread starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  // A file over the process's size limit is an error on the call that wrote it, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  return signals;
}

int Serve(const CommandLine& line, bool json) {
  const sigset_t signals = BlockSignals();
  if (const absl::Status logging = StartLoggingFrom(line); !logging.ok()) return FailToStart(json, logging);
  LeaveOutLockChecks();
  TuneGrpcForStreaming();
  absl::StatusOr<ServerOptions> options = OptionsFrom(line);
  if (!options.ok()) return FailToStart(json, options.status());
  absl::StatusOr<std::unique_ptr<Device>> device = DeviceFrom(line);
  if (!device.ok()) return FailToStart(json, device.status());
  if (line.Switch("exit-on-device-failure")) {
    options->on_device_failed = [] {
      device_failed.store(true);
      ::kill(::getpid(), SIGTERM);
    };
  }
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(*options, *std::move(device));
  if (!server.ok()) return FailToStart(json, server.status());
  std::printf("listening on %s\n", (*server)->address().c_str());
  std::fflush(stdout);
  // Never destroyed: gRPC's own clean-up may wait some ten seconds for a poller that a large reply started, and the
  // process is about to end anyway. Shutdown does all that is ours.
  static Server* const running = server->release();

  int signal = 0;
  sigwait(&signals, &signal);
  // From here on a second signal has its usual effect.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  // Nothing that is in flight to a device that has failed comes to its end.
  const bool failed = device_failed.load();
  running->Shutdown(failed ? absl::ZeroDuration() : options->limits.drain);
  return failed ? kFailed : 0;
}

int Main(const std::vector<std::string>& arguments) {
  const absl::StatusOr<CommandLine> line = ParseCommandLine(ServerCommand(), arguments);
  const bool json = AsksForJsonLogs(arguments);
  if (!line.ok()) {
    // What --log-level says is not known then.
    if (json && !StartLogging("info", LogFormat::kJson).ok()) return kFailed;
    return FailToStart(json, line.status());
  }
  if (!line->help()) return Serve(*line, json);
  std::fputs(HelpText(ServerCommand()).c_str(), stdout);
  return 0;
}

}  // namespace

int ServerMain(int argc, char** argv) {
  KeepOpensslAtExit();
  TuneAllocatorForStreaming();
  return Main({argv + 1, argv + argc});
}

}  // namespace weightstream
