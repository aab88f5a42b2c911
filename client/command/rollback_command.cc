// weightstream rollback: makes a version that is held current again.
#include "absl/strings/str_cat.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/model_json.h"
#include "client/command/model_service.h"
#include "client/command/report.h"
#include "client/command/signals.h"

namespace weightstream::command {
namespace {

const CommandSpec& Spec() {
  static const CommandSpec& spec = *new CommandSpec{
      .program = "weightstream",
      .name = "rollback",
      .summary = "Makes a version that a server holds current again",
      .description =
          "Makes an earlier (or later) version that the server still holds current, atomically. `weightstream "
          "status` lists the versions held. An update in flight goes on.",
      .examples = {"weightstream rollback --to=10.0.0.5:7070 --model=llama --version=11"},
      .flags = WithSecurityFlags({ServerFlag("to", "The server: HOST:PORT or unix:PATH."),
                                  ModelFlag(true, "The model's name on the server."),
                                  VersionFlag(true, "The version to make current."), JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "the version is current",
      .failed = "it is not, or the server's answer was lost; running the same command again does no harm",
  };
  return spec;
}

int Run(const CommandLine& line) {
  const std::string server = line.Text("to");
  const std::string model = line.Text("model");
  const uint64_t version = line.Number("version", 0);
  Report report;
  report.json = {{"server", server}, {"model", model}, {"version", version}};
  ModelService service(server, TimeLimits(), SecurityFrom(line), Interrupted);
  const absl::StatusOr<v1::RollbackModelResponse> response = service.Rollback(model, version);
  if (response.ok()) {
    report.json["previous_version"] = response->previous_version();
    report.json["state"] = ModelJson(response->model());
    report.text = absl::StrCat(server, ": ", model, ": version ", version, " is current, ",
                               response->previous_version(), " was before\n");
  } else {
    const absl::Status& status = response.status();
    report.status = OrInterrupted(absl::Status(status.code(), absl::StrCat(server, ": ", status.message())),
                                  "whether the version changed is not known; see weightstream status");
  }
  return Finish(report, line.Switch("json"));
}

}  // namespace

Command RollbackCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
