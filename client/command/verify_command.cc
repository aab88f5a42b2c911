// weightstream verify: compares a checkpoint with what a server holds.
#include <memory>

#include "client/command/command.h"
#include "client/command/common_flags.h"
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
      .summary = "Compares a checkpoint with what a server holds",
      .description =
          "Compares every byte of the weights in PATH with a committed version, by digests that the server computes "
          "from where the version lies now. The weights do not travel.\n"
          "PATH is a .safetensors file or a Hugging Face checkpoint folder.",
      .examples = {"weightstream verify /models/llama --to=10.0.0.5:7070 --model=llama"},
      .flags = WithSecurityFlags({ServerFlag("to", "The server: HOST:PORT or unix:PATH."),
                                  ModelFlag(true, "The model's name on the server."),
                                  VersionFlag(false, "The version to compare with. Default: the current one."),
                                  StallSecondsFlag(), ConnectSecondsFlag(), JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "every checksum is equal",
      .failed = "something differs (with --json: \"equal\" is false), or the comparison failed (\"equal\" is absent)",
  };
  return spec;
}

int Run(const CommandLine& line) {
  const bool json = line.Switch("json");
  const std::string server = line.Text("to");
  const ReadOptions options = ReadOptionsFrom(line);
  Report report;
  report.json = {{"server", server}, {"model", options.model}, {"version", options.version}};
  absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenCheckpointSource(line.positional());
  if (!source.ok()) {
    report.status = source.status();
    return Finish(report, json);
  }
  const absl::Duration begin = MonotonicNow();
  ProgressPrinter printer(stderr, {server}, ProgressPrinter::OptionsFor(stderr));
  const absl::StatusOr<VerifyResult> result =
      Verify(**source, server, options, ShowOn(printer, server, "verifying"), Interrupted);
  printer.Finish();
  if (result.ok()) {
    report = ReportVerify(server, options.model, *result);
  } else {
    report.status = OrInterrupted(result.status(), "run the same command again");
  }
  report.json["seconds"] = absl::ToDoubleSeconds(MonotonicNow() - begin);
  return Finish(report, json);
}

}  // namespace

Command VerifyCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
