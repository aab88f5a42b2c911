// weightstream: finds the command and runs it.
#include "client/command/command_main.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command/command.h"
#include "client/command/report.h"
#include "client/command/signals.h"
#include "flags/command_line.h"
#include "process/allocator.h"
#include "process/grpc_tuning.h"
#include "process/lock_checks.h"
#include "process/openssl_at_exit.h"
#include "tensor/spec.h"

namespace weightstream::command {
namespace {

constexpr char kVersion[] = "0.1.0";

std::vector<Command> Commands() {
  return {PushCommand(), StatusCommand(), WatchCommand(), PullCommand(), VerifyCommand(), RollbackCommand()};
}

std::string OverviewText(const std::vector<Command>& commands) {
  std::string out =
      "weightstream streams model weights to inference servers.\n\n"
      "Usage: weightstream COMMAND [ARGUMENT...]\n\nCommands:\n";
  for (const Command& command : commands)
    absl::StrAppendFormat(&out, "  %-10s%s\n", command.spec.name, command.spec.summary);
  absl::StrAppend(&out,
                  "\nFlags:\n  --help     Shows this page; after a command, the command's.\n"
                  "  --version  Shows the version.\n\n"
                  "Example:\n  weightstream push /models/llama --to=10.0.0.5:7070 --model=llama\n\n"
                  "Exit codes:\n  0 done\n  1 failed\n  2 bad usage\n");
  return out;
}

int PrintPage(const std::string& text) { return PrintNow(text) ? kDone : kFailed; }

int RunCommand(const Command& command, const std::vector<std::string>& arguments) {
  const absl::StatusOr<CommandLine> line = ParseCommandLine(command.spec, arguments);
  if (!line.ok()) return FinishBadUsage(line.status(), command.spec.name, AsksForJson(arguments));
  if (line->help()) return PrintPage(HelpText(command.spec));
  LeaveOutLockChecks();
  TuneGrpcForStreaming();
  return command.run(*line);
}

int Dispatch(const std::vector<std::string>& arguments) {
  const std::vector<Command> commands = Commands();
  const bool json = AsksForJson(arguments);
  const std::string known = absl::StrJoin(
      commands, ", ", [](std::string* out, const Command& command) { absl::StrAppend(out, command.spec.name); });
  if (arguments.empty()) {
    return FinishBadUsage(absl::InvalidArgumentError(absl::StrCat("a command is missing: one of ", known)), "", json);
  }
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h") return PrintPage(OverviewText(commands));
  if (first == "--version") return PrintPage(absl::StrCat("weightstream ", kVersion, "\n"));
  for (const Command& command : commands) {
    if (command.spec.name == first) return RunCommand(command, {arguments.begin() + 1, arguments.end()});
  }
  const absl::string_view what = absl::StartsWith(first, "-") ? "the command comes first, not " : "unknown command ";
  return FinishBadUsage(
      absl::InvalidArgumentError(absl::StrCat(what, "\"", Printable(first), "\"; the commands are ", known)), "", json);
}

}  // namespace

int CommandMain(int argc, char** argv) {
  KeepOpensslAtExit();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  InstallSignalHandlers(AsksForJson(arguments));
  TuneAllocatorForStreaming();
  return Dispatch(arguments);
}

}  // namespace weightstream::command
