// weightstream push: opens the checkpoint, pushes it, shows how far it is.
#include <cmath>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/progress_printer.h"
#include "client/command/push_report.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "client/push.h"
#include "client/weight_source.h"
#include "proto/trace_context.h"
#include "tensor/text.h"

namespace weightstream::command {
namespace {

constexpr uint64_t kMostConnections = 64;
constexpr uint64_t kMostAttempts = 1000;
// A gRPC message cannot reach 2 GiB.
constexpr uint64_t kMostBucketMib = 1024;
constexpr uint64_t kMib = 1 << 20;

absl::Status CheckTraceparent(absl::string_view text) {
  if (ParseTraceparent(text).has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", Printable(text),
                                                 "\" is no trace context; give one such as "
                                                 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
}

// The flag's, or the environment's. An environment that holds nonsense is none of the user's doing: as the
// specification has it, it is passed over.
std::string TraceparentFrom(const CommandLine& line) {
  if (line.Has("traceparent")) return line.Text("traceparent");
  const char* const inherited = std::getenv(kTraceparentVariable);
  return inherited != nullptr && ParseTraceparent(inherited).has_value() ? inherited : "";
}

std::vector<FlagSpec> Flags() {
  return {
      ServersFlag("to", "The servers."),
      ModelFlag(true, "The model's name on the servers: letters, digits, '.', '_' and '-'."),
      VersionFlag(
          false,
          "The version to push, higher than any that the servers hold. Default: that of an interrupted push of the "
          "same files, which is then resumed, else one more than the highest on any server."),
      {.name = "connections",
       .kind = FlagKind::kNumber,
       .value = "N",
       .help = "TCP connections to each server. Default: chosen by the work and the distance.",
       .least = 1,
       .most = kMostConnections},
      {.name = "bucket-mib",
       .kind = FlagKind::kDecimal,
       .value = "N",
       .help = "Most MiB of payload in one message, such as 4 or 0.25. The server's limit holds in any case. Default: "
               "chosen "
               "for speed.",
       .most = kMostBucketMib},
      {.name = "bucket-bytes",
       .kind = FlagKind::kNumber,
       .value = "N",
       .help = "The same in bytes.",
       .least = 1,
       .most = kMostBucketMib * kMib},
      {.name = "allow-partial",
       .kind = FlagKind::kSwitch,
       .help =
           "Commits on the servers that have everything even if others failed. Without it all commit or none. The exit "
           "code is 1 if any server failed, with or without it."},
      StallSecondsFlag(),
      ConnectSecondsFlag(),
      {.name = "max-attempts",
       .kind = FlagKind::kNumber,
       .value = "N",
       .help =
           "How often in a row a server may fail without one new byte landed before it counts as failed. Default 5.",
       .least = 1,
       .most = kMostAttempts},
      {.name = "traceparent",
       .kind = FlagKind::kText,
       .value = "CONTEXT",
       .help =
           "The trace that this push is a part of, as W3C Trace Context has it, for the servers' logs. Default: the "
           "environment's TRACEPARENT.",
       .check = CheckTraceparent},
      JsonFlag(),
  };
}

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "push",
      .positional = "PATH",
      .summary = "Pushes a checkpoint to servers as a new version",
      .description =
          "Pushes the weights in PATH to every server and makes them current there, on all servers or on none.\n"
          "PATH is a .safetensors file or a Hugging Face checkpoint folder (model.safetensors, or "
          "model.safetensors.index.json and its shards).\n"
          "The commit is sent only once every server has everything; each server's outcome is told.\n"
          "A push that was interrupted is resumed by running the same command again: only what is missing is sent.",
      .examples = {"weightstream push /models/llama --to=10.0.0.5:7070,10.0.0.6:7070 --model=llama",
                   "weightstream push /models/llama --to=dns:///weightstream:7070 --model=policy",
                   "weightstream push /models/llama --to=@fleet.txt --model=llama --allow-partial",
                   "weightstream push step-4200.safetensors --to=localhost:7070 --model=policy --json"},
      .flags = WithSecurityFlags(Flags()),
      .exclusive = {{"bucket-mib", "bucket-bytes"}},
      .needs = WithSecurityNeeds(),
      .done = "the version is current on every server",
      .failed = "it is not; the message (with --json: each server's \"error\") says where and why",
  };
  return spec;
}

PushOptions OptionsFrom(const CommandLine& line) {
  PushOptions options;
  options.model = line.Text("model");
  options.version = line.Number("version", 0);
  options.connections = static_cast<int>(line.Number("connections", 0));
  options.bucket_limit_bytes = line.Number("bucket-bytes", 0);
  if (line.Has("bucket-mib")) {
    // A fraction of a byte is no byte, but no bucket at all would mean "choose".
    const double bytes = std::floor(line.Decimal("bucket-mib", 0) * static_cast<double>(kMib));
    options.bucket_limit_bytes = std::max<uint64_t>(1, static_cast<uint64_t>(bytes));
  }
  options.allow_partial = line.Switch("allow-partial");
  options.max_attempts = static_cast<int>(line.Number("max-attempts", options.max_attempts));
  options.limits = TimeLimitsFrom(line);
  options.security = SecurityFrom(line);
  options.traceparent = TraceparentFrom(line);
  return options;
}

TransferState StateOf(const PushProgress& progress) {
  return {.phase = PushPhaseName(progress.phase),
          .version = progress.version,
          .done_bytes = progress.resumed_bytes + progress.sent_bytes,
          .total_bytes = progress.total_bytes,
          .resumed_bytes = progress.resumed_bytes,
          .retries = progress.retries,
          .end = progress.phase == PushPhase::kDone     ? TransferState::End::kDone
                 : progress.phase == PushPhase::kFailed ? TransferState::End::kFailed
                                                        : TransferState::End::kNot};
}

// A failure that concerns no server.
Report ReportEarlyFailure(const absl::Status& status, const PushOptions& options) {
  return {.status = status,
          .json = {{"model", options.model},
                   {"version", options.version},
                   {"total_bytes", 0},
                   {"tensors", 0},
                   {"seconds", 0.0},
                   {"committed_servers", 0},
                   {"servers", Json::array()}}};
}

int Run(const CommandLine& line) {
  constexpr char kRemedy[] = "run the same command again to resume";
  const bool json = line.Switch("json");
  PushOptions options = OptionsFrom(line);
  absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenCheckpointSource(line.positional());
  if (!source.ok()) return Finish(ReportEarlyFailure(source.status(), options), json);

  const absl::StatusOr<std::vector<std::string>> servers =
      FindServers(line.List("to"), options.limits.connect, options.security);
  if (!servers.ok()) return Finish(ReportEarlyFailure(OrInterrupted(servers.status(), kRemedy), options), json);

  ProgressPrinter printer(stderr, *servers, ProgressPrinter::OptionsFor(stderr));
  const absl::StatusOr<PushResult> result = Push(
      **source, *servers, options,
      [&](const PushProgress& progress) { printer.Update(progress.server, StateOf(progress)); }, Interrupted);
  printer.Finish();
  if (!result.ok()) return Finish(ReportEarlyFailure(OrInterrupted(result.status(), kRemedy), options), json);
  Report report = ReportPush(options.model, *result);
  report.status = OrInterrupted(report.status, kRemedy);
  return Finish(report, json);
}

}  // namespace

Command PushCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
