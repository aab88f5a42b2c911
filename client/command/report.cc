#include "client/command/report.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/command/formatting.h"
#include "client/command/signals.h"

namespace weightstream::command {
namespace {

void PrintError(absl::string_view message) {
  std::fprintf(stderr, "weightstream: %s\n", OneLine(message).c_str());
  std::fflush(stderr);
}

std::string ErrorText(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
}

}  // namespace

bool PrintNow(absl::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

absl::Status OrInterrupted(const absl::Status& status, absl::string_view remedy) {
  // Only what the interruption itself ended: another failure keeps its own cause.
  if (!Interrupted() || !absl::IsCancelled(status)) return status;
  return absl::CancelledError(absl::StrCat("interrupted; ", remedy));
}

int Finish(const Report& report, bool json) {
  if (!report.status.ok()) {
    PrintError(absl::IsCancelled(report.status) ? std::string(report.status.message()) : ErrorText(report.status));
  }
  Json object = OutcomeJson(report.status);
  if (report.json.is_object()) object.update(report.json);
  if (!PrintNow(json ? JsonLine(object) : report.text)) {
    PrintError("cannot write to stdout");
    return kFailed;
  }
  return report.status.ok() ? kDone : kFailed;
}

int FinishBadUsage(const absl::Status& status, absl::string_view command, bool json) {
  const absl::string_view space = command.empty() ? "" : " ";
  PrintError(status.message());
  std::fprintf(stderr, "see weightstream%s%s --help\n", std::string(space).c_str(), std::string(command).c_str());
  if (json && !PrintNow(JsonLine(OutcomeJson(status)))) PrintError("cannot write to stdout");
  return kBadUsage;
}

}  // namespace weightstream::command
