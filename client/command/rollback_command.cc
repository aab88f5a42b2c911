// weightstream rollback: makes a version that servers hold current again.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/command/command.h"
#include "client/command/common_flags.h"
#include "client/command/find_servers.h"
#include "client/command/fleet_report.h"
#include "client/command/formatting.h"
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
      .summary = "Makes a version that servers hold current again",
      .description =
          "Makes an earlier (or later) version that the servers still hold current, atomically on each. `weightstream "
          "status` lists the versions held. An update in flight goes on.\n"
          "With several servers all are asked first: unless every one answers and holds the version, nothing is "
          "changed anywhere.",
      .examples = {"weightstream rollback --to=10.0.0.5:7070 --model=llama --version=11",
                   "weightstream rollback --to=dns:///weightstream:7070 --model=policy --version=11"},
      .flags = WithSecurityFlags(
          {ServersFlag("to", "The servers."),
           ModelFlag(true, "The model's name on the servers."),
           VersionFlag(true, "The version to make current."),
           {.name = "allow-partial",
            .kind = FlagKind::kSwitch,
            .help = "Makes it current where it can be, even if other servers do not answer or do not hold it. The exit "
                    "code is 1 if any server failed, with or without it."},
           ConnectOnceSecondsFlag(),
           JsonFlag()}),
      .needs = WithSecurityNeeds(),
      .done = "the version is current on every server",
      .failed = "it is not, or a server's answer was lost; running the same command again does no harm",
  };
  return spec;
}

struct Goal {
  std::string model;
  uint64_t version = 0;
  bool allow_partial = false;
  TimeLimits limits;
  Security security;
};

absl::Status At(const std::string& server, const absl::Status& status) {
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(server, ": ", status.message()));
}

// Whether the server answers and holds the version.
absl::Status Check(const std::string& server, const Goal& goal) {
  ModelService service(server, goal.limits, goal.security, Interrupted);
  const absl::StatusOr<v1::Model> model = service.Get(goal.model);
  if (!model.ok()) return model.status();
  std::vector<uint64_t> held;
  for (const v1::VersionInfo& version : model->versions()) {
    if (version.version() == goal.version) return absl::OkStatus();
    held.push_back(version.version());
  }
  return absl::NotFoundError(absl::StrCat("model '", goal.model, "' does not hold version ", goal.version,
                                          "; it holds ", held.empty() ? "none" : FormatVersions(held)));
}

void RollBack(const Goal& goal, ServerReport& report) {
  ModelService service(report.server, goal.limits, goal.security, Interrupted);
  const absl::StatusOr<v1::RollbackModelResponse> response = service.Rollback(goal.model, goal.version);
  report.status = At(report.server, response.status());
  if (!response.ok()) return;
  report.json["previous_version"] = response->previous_version();
  report.json["state"] = ModelJson(response->model());
  report.text = absl::StrCat(report.server, ": ", goal.model, ": version ", goal.version, " is current, ",
                             response->previous_version(), " was before\n");
}

std::vector<ServerReport> RollBackOn(const std::vector<std::string>& servers, const Goal& goal) {
  std::vector<ServerReport> reports(servers.size());
  for (size_t i = 0; i < servers.size(); ++i) {
    reports[i].server = servers[i];
    reports[i].json = {{"model", goal.model}, {"version", goal.version}};
  }
  const ServerReport* failed = nullptr;
  if (servers.size() > 1) {
    OnEachServer(servers.size(), [&](size_t i) { reports[i].status = At(servers[i], Check(servers[i], goal)); });
    for (const ServerReport& report : reports) {
      if (failed == nullptr && !report.status.ok()) failed = &report;
    }
  }
  if (failed == nullptr || goal.allow_partial) {
    OnEachServer(servers.size(), [&](size_t i) {
      if (reports[i].status.ok()) RollBack(goal, reports[i]);
    });
    return reports;
  }
  for (ServerReport& report : reports) {
    if (report.status.ok()) {
      report.status = absl::AbortedError(absl::StrCat(report.server, ": not rolled back: ", failed->status.message()));
    }
  }
  return reports;
}

// The cause first: servers that were left alone only because of it are no failures of their own.
Report ReportRollback(const std::vector<ServerReport>& reports) {
  Report report = ReportFleet(reports);
  for (const ServerReport& server : reports) {
    if (server.status.ok() || absl::IsAborted(server.status)) continue;
    report.status = server.status;
    break;
  }
  return report;
}

int Run(const CommandLine& line) {
  const bool json = line.Switch("json");
  Goal goal{.model = line.Text("model"),
            .version = line.Number("version", 0),
            .allow_partial = line.Switch("allow-partial"),
            .limits = TimeLimitsFrom(line),
            .security = SecurityFrom(line)};
  const absl::StatusOr<std::vector<std::string>> servers =
      FindServers(line.List("to"), goal.limits.connect, goal.security);
  Report report = servers.ok() ? ReportRollback(RollBackOn(*servers, goal)) : FailedEarly(servers.status());
  report.status =
      OrInterrupted(report.status, "whether the version changed everywhere is not known; see weightstream status");
  return Finish(report, json);
}

}  // namespace

Command RollbackCommand() { return {Spec(), Run}; }

}  // namespace weightstream::command
