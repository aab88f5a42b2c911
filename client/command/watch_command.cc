// weightstream watch: what changes, as it does, until something ends it.
#include "absl/types/optional.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/live_block.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "client/command/watch_events.h"
#include "client/command/watch_run.h"
#include "client/command/watch_screen.h"

namespace weightstream::command {
namespace {

constexpr uint64_t kMostSeconds = 31'536'000;

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "watch",
      .summary = "Follows what servers hold and receive",
      .description =
          "On a terminal: a line for each model of each server, redrawn in place, with what is current, or how far the "
          "update in flight is, its rate and the time left; what happens is told above, with the time.\n"
          "Elsewhere a line at each change on any of the servers: time, server, model, state, version, how far, rate, "
          "time left. The states are current (this version is the current one now), receiving, committing, committed, "
          "aborted (with the reason), unreachable and reachable (again, or without a model to tell of).\n"
          "With --json each line is an object with time, server, model, state, version, landed_bytes, total_bytes, "
          "percent, bytes_per_second, seconds_left and reason; the last one is the outcome, with \"ok\". It ends at "
          "Ctrl-C, or as the flags say. A name is looked up once, at the start.",
      .examples = {"weightstream watch --to=dns:///weightstream:7070",
                   "weightstream watch --to=localhost:7070 --model=llama --until-version=12 --timeout-seconds=600"},
      .flags = WithSecurityFlags(
          {ServersFlag("to", "The servers."),
           ModelFlag(false, "Only this model, which need not exist yet. Default: every model."),
           {.name = "until-version",
            .kind = FlagKind::kNumber,
            .value = "N",
            .help = "Ends with exit code 0 once version N of --model, or a higher one, is current on every server.",
            .least = 1},
           {.name = "timeout-seconds",
            .kind = FlagKind::kNumber,
            .value = "N",
            .help = "Ends with exit code 1 after N seconds.",
            .least = 1,
            .most = kMostSeconds},
           ConnectSecondsFlag(),
           JsonFlag()}),
      .needs = WithSecurityNeeds({{"until-version", "model"}}),
      .done = "the version waited for is current on every server; or Ctrl-C, if none was waited for",
      .failed =
          "time ran out, a server that is waited for stayed out of reach, none is left to watch, or Ctrl-C came before "
          "the "
          "version",
  };
  return spec;
}

WatchOptions OptionsFrom(const CommandLine& line) {
  WatchOptions options;
  options.model = line.Text("model");
  options.until_version = line.Number("until-version", 0);
  if (line.Has("timeout-seconds")) options.timeout = absl::Seconds(line.Number("timeout-seconds", 0));
  options.limits.connect = absl::Seconds(line.Number("connect-seconds", absl::ToInt64Seconds(options.limits.connect)));
  options.security = SecurityFrom(line);
  return options;
}

int Run(const CommandLine& line) {
  const bool json = line.Switch("json");
  Report report;
  WatchOptions options = OptionsFrom(line);
  absl::StatusOr<std::vector<std::string>> servers =
      FindServers(line.List("to"), options.limits.connect, options.security);
  if (!servers.ok()) {
    report.status = OrInterrupted(servers.status(), "run the same command again");
    return Finish(report, json);
  }
  options.servers = *std::move(servers);
  const bool with_server = options.servers.size() > 1;
  absl::optional<WatchScreen> screen;
  if (!json && LiveBlock::CanRedraw(stdout)) screen.emplace(stdout, options.servers, options.model);
  WatchRun run(
      options,
      [&](const WatchEvent& event) {
        if (screen.has_value()) return screen->Show(event);
        return PrintNow(json ? JsonLine(WatchEventJson(event)) : WatchEventText(event, with_server));
      },
      Interrupted);
  report.status = run.Run();
  if (screen.has_value()) screen->Finish();
  return Finish(report, json);
}

}  // namespace

Command WatchCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
