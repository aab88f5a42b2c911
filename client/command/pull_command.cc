// weightstream pull: reads a committed version back into a file.
#include "absl/strings/str_cat.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/formatting.h"
#include "client/command/read_run.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "client/read.h"
#include "tensor/monotonic_clock.h"

namespace weightstream::command {
namespace {

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "pull",
      .summary = "Reads a version back from a server into a safetensors file",
      .description =
          "Reads a committed version from a server and writes it to DIR/model.safetensors. Every chunk's checksum is "
          "checked, and the file appears only once it is whole. A connection lost in the middle is retried.",
      .examples = {"weightstream pull --from=10.0.0.5:7070 --model=llama --out=/tmp/llama",
                   "weightstream pull --from=10.0.0.5:7070 --model=llama --version=11 --out=old"},
      .flags = WithSecurityFlags(
          {ServerFlag("from", "The server: HOST:PORT or unix:PATH."),
           ModelFlag(true, "The model's name on the server."),
           VersionFlag(false, "The version to read. Default: the current one."),
           {.name = "out",
            .kind = FlagKind::kText,
            .value = "DIR",
            .help = "The folder to write to; it is made if missing. A model.safetensors there is replaced.",
            .required = true},
           StallSecondsFlag(),
           ConnectSecondsFlag(),
           JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "the file is there, whole and checked",
      .failed = "it is not; a file that was there before is as it was",
  };
  return spec;
}

int Run(const CommandLine& line) {
  const std::string server = line.Text("from");
  const ReadOptions options = ReadOptionsFrom(line);
  const absl::Duration begin = MonotonicNow();
  ProgressPrinter printer(stderr, {server}, ProgressPrinter::OptionsFor(stderr));
  const absl::StatusOr<PullResult> result =
      Pull(server, options, line.Text("out"), ShowOn(printer, server, "pulling"), Interrupted);
  printer.Finish();
  const absl::Duration elapsed = MonotonicNow() - begin;
  const double seconds = absl::ToDoubleSeconds(elapsed);

  Report report;
  report.json = {{"server", server}, {"model", options.model}};
  if (result.ok()) {
    const double rate = seconds > 0 ? static_cast<double>(result->total_bytes) / seconds : 0;
    report.json.update({{"version", result->version},
                        {"total_bytes", result->total_bytes},
                        {"tensors", result->tensors},
                        {"seconds", seconds},
                        {"path", result->path}});
    report.text = absl::StrCat(server, ": version ", result->version, ", ", FormatBytes(result->total_bytes), " in ",
                               DurationText(elapsed), ", ", FormatRate(rate), ": ", result->path, "\n");
  } else {
    report.json.update({{"version", options.version}, {"seconds", seconds}});
    report.status = OrInterrupted(result.status(), "nothing was written; run the same command again");
  }
  return Finish(report, line.Switch("json"));
}

}  // namespace

Command PullCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
