// What a command that does the same on each of its servers says at its end. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_FLEET_REPORT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_FLEET_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/command/json_output.h"
#include "client/command/report.h"

namespace weightstream::command {

struct ServerReport {
  std::string server;
  // Its message begins with the server.
  absl::Status status{};
  // "server" and "ok" come first and are not part of it.
  Json json = Json::object();
  // For a person; empty where there is nothing to say but the status.
  std::string text{};
};

// The command's status is the first failure. In JSON {"servers": [{"server", "ok", ...}, ...]}; where there is one
// server, its members stand beside "servers" as well. In text each server's words, behind its
// failure where there are several.
Report ReportFleet(const std::vector<ServerReport>& servers);

// A failure that concerns no server: "servers" is empty.
Report FailedEarly(const absl::Status& status);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_FLEET_REPORT_H_
