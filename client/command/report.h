// How a command ends: what it prints, and its exit code.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_REPORT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/command/json_output.h"

namespace weightstream::command {

// What scripts rely on.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kBadUsage = 2;

// What a finished command has to say.
struct Report {
  // The command's own failure.
  absl::Status status{};
  // For stdout with --json; OutcomeJson(status) comes first and is not part of it.
  Json json{};
  // For stdout without --json: the result.
  std::string text{};
};

// Prints `report` and returns the exit code. The error goes to stderr in both forms. Output that cannot be written (a
// full disk, a closed pipe) is a failure too.
int Finish(const Report& report, bool json);

// `status`, or what to say of it once the user has interrupted the command. `remedy` is what to do now: "run the same
// command again to resume".
absl::Status OrInterrupted(const absl::Status& status, absl::string_view remedy);

// Writes to stdout at once; false if that failed.
bool PrintNow(absl::string_view text);

// An error of usage, for stderr (and stdout with JSON). `command` is empty if the command itself is the error.
int FinishBadUsage(const absl::Status& status, absl::string_view command, bool json);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_REPORT_H_
