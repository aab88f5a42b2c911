// weightstream verify: compares a checkpoint with what a server holds.
#include <memory>
#include <vector>

#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/fleet_report.h"
#include "client/command/read_run.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "client/command/verify_report.h"
#include "client/read.h"
#include "client/weight_source.h"
#include "tensor/monotonic_clock.h"

namespace weightstream::command {
namespace {

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "verify",
      .positional = "PATH",
      .summary = "Compares a checkpoint with what servers hold",
      .description =
          "Compares every byte of the weights in PATH with a committed version, by digests that each server computes "
          "from where the version lies now. The weights do not travel. Where an inference server's registered targets "
          "hold slices, or another float type, PATH's weights are cut and cast in the same way first.\n"
          "PATH is a .safetensors file or a Hugging Face checkpoint folder.",
      .examples = {"weightstream verify /models/llama --to=10.0.0.5:7070 --model=llama"},
      .flags =
          WithSecurityFlags({ServersFlag("to", "The servers."), ModelFlag(true, "The model's name on the servers."),
                             VersionFlag(false, "The version to compare with. Default: the current one."),
                             StallSecondsFlag(), ConnectSecondsFlag(), JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "every checksum is equal, on every server",
      .failed = "something differs (with --json: a server's \"equal\" is false), or a comparison failed (it is absent)",
  };
  return spec;
}

ServerReport VerifyOn(const std::string& server, const WeightSource& source, const ReadOptions& options,
                      ProgressPrinter& printer) {
  const absl::Duration begin = MonotonicNow();
  const absl::StatusOr<VerifyResult> result =
      Verify(source, server, options, ShowOn(printer, server, "verifying"), Interrupted);
  ServerReport report;
  if (result.ok()) {
    report = ReportVerify(server, options.model, *result);
  } else {
    report.server = server;
    report.json = {{"model", options.model}, {"version", options.version}};
    report.status = result.status();
  }
  report.json["seconds"] = absl::ToDoubleSeconds(MonotonicNow() - begin);
  return report;
}

Report RunOn(const CommandLine& line) {
  ReadOptions options = ReadOptionsFrom(line);
  absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenCheckpointSource(line.positional());
  if (!source.ok()) return FailedEarly(source.status());
  const absl::StatusOr<std::vector<std::string>> servers =
      FindServers(line.List("to"), options.limits.connect, options.security);
  if (!servers.ok()) return FailedEarly(servers.status());
  std::vector<ServerReport> reports(servers->size());
  ProgressPrinter printer(stderr, *servers, ProgressPrinter::OptionsFor(stderr));
  OnEachServer(servers->size(), [&](size_t i) { reports[i] = VerifyOn((*servers)[i], **source, options, printer); });
  printer.Finish();
  return ReportFleet(reports);
}

int Run(const CommandLine& line) {
  Report report = RunOn(line);
  report.status = OrInterrupted(report.status, "run the same command again");
  return Finish(report, line.Switch("json"));
}

}  // namespace

Command VerifyCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
