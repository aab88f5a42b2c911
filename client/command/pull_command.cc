// weightstream pull: reads a committed version back into a file.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/first_holder.h"
#include "client/command/formatting.h"
#include "client/command/rate_meter.h"
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
                   "weightstream pull --from=dns:///weightstream:7070 --model=llama --version=11 --out=old"},
      .flags = WithSecurityFlags(
          {ServersFlag("from", "The server; of several the first that answers that it holds the version."),
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

Report PullFrom(const std::string& server, const ReadOptions& options, const std::string& folder) {
  const absl::Duration begin = MonotonicNow();
  ProgressPrinter printer(stderr, {server}, ProgressPrinter::OptionsFor(stderr));
  const absl::StatusOr<PullResult> result =
      Pull(server, options, folder, ShowOn(printer, server, "pulling"), Interrupted);
  printer.Finish();
  const absl::Duration elapsed = MonotonicNow() - begin;
  const double seconds = absl::ToDoubleSeconds(elapsed);

  Report report;
  report.json = {{"server", server}, {"model", options.model}};
  if (result.ok()) {
    const double rate = BytesPerSecond(result->total_bytes, elapsed);
    report.json.update({{"version", result->version},
                        {"total_bytes", result->total_bytes},
                        {"tensors", result->tensors},
                        {"seconds", seconds},
                        {"path", result->path}});
    report.text = absl::StrCat(server, ": version ", result->version, ", ", FormatBytes(result->total_bytes), " in ",
                               DurationText(elapsed), ", ", FormatRate(rate), ": ", result->path, "\n");
  } else {
    report.json.update({{"version", options.version}, {"seconds", seconds}});
    report.status = result.status();
  }
  return report;
}

int Run(const CommandLine& line) {
  ReadOptions options = ReadOptionsFrom(line);
  const absl::StatusOr<std::vector<std::string>> servers =
      FindServers(line.List("from"), options.limits.connect, options.security);
  const absl::StatusOr<std::string> server = servers.ok() ? FirstHolder(*servers, options) : servers.status();
  Report report;
  if (server.ok()) {
    report = PullFrom(*server, options, line.Text("out"));
  } else {
    report.json = {{"model", options.model}, {"version", options.version}};
    report.status = server.status();
  }
  report.status = OrInterrupted(report.status, "nothing was written; run the same command again");
  return Finish(report, line.Switch("json"));
}

}  // namespace

Command PullCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
