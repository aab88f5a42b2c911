#include "client/command/common_flags.h"

#include "absl/time/time.h"
#include "tensor/spec.h"

namespace weightstream::command {
namespace {

// No wait is for ever: a day is as good as for ever to a person, and not to a script.
constexpr uint64_t kMostSeconds = 86400;

}  // namespace

FlagSpec JsonFlag() {
  return {.name = "json",
          .kind = FlagKind::kSwitch,
          .help =
              "Prints one JSON object on stdout and nothing else; progress and messages go to stderr. An error is "
              "{\"ok\": false, \"error\": {\"code\", \"message\"}}."};
}

FlagSpec ServersFlag() {
  return {.name = "to",
          .kind = FlagKind::kList,
          .value = "ADDR[,ADDR...]",
          .help = "The servers: HOST:PORT each, or unix:PATH.",
          .required = true,
          .check = ValidateAddress};
}

FlagSpec ServerFlag(const std::string& name, const std::string& help) {
  return {
      .name = name, .kind = FlagKind::kText, .value = "ADDR", .help = help, .required = true, .check = ValidateAddress};
}

FlagSpec ModelFlag(bool required, const std::string& help) {
  return {.name = "model",
          .kind = FlagKind::kText,
          .value = "NAME",
          .help = help,
          .required = required,
          .check = ValidateModelName};
}

FlagSpec VersionFlag(bool required, const std::string& help) {
  return {.name = "version", .kind = FlagKind::kNumber, .value = "N", .help = help, .required = required, .least = 1};
}

FlagSpec ConnectSecondsFlag() {
  return {.name = "connect-seconds",
          .kind = FlagKind::kNumber,
          .value = "N",
          .help = "How long to try to reach a server, at first and after a loss. Default 25.",
          .least = 1,
          .most = kMostSeconds};
}

FlagSpec StallSecondsFlag() {
  return {.name = "stall-seconds",
          .kind = FlagKind::kNumber,
          .value = "N",
          .help = "A server that takes or sends no byte for that long counts as dead. Default 30.",
          .least = 1,
          .most = kMostSeconds};
}

TimeLimits TimeLimitsFrom(const CommandLine& line) {
  TimeLimits limits;
  limits.connect = absl::Seconds(line.Number("connect-seconds", absl::ToInt64Seconds(limits.connect)));
  limits.stall = absl::Seconds(line.Number("stall-seconds", absl::ToInt64Seconds(limits.stall)));
  return limits;
}

}  // namespace weightstream::command
