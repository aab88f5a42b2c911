#include "client/command/fleet_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/command/formatting.h"

namespace weightstream::command {
namespace {

// The server is said once, in front.
std::string FailureText(const ServerReport& server) {
  absl::string_view message = server.status.message();
  absl::ConsumePrefix(&message, absl::StrCat(server.server, ": "));
  return absl::StrCat(server.server, ": ", absl::StatusCodeToString(server.status.code()), ": ", OneLine(message),
                      "\n");
}

}  // namespace

Report ReportFleet(const std::vector<ServerReport>& servers) {
  Report report;
  Json list = Json::array();
  for (const ServerReport& server : servers) {
    report.status.Update(server.status);
    if (servers.size() > 1 && !server.status.ok()) absl::StrAppend(&report.text, FailureText(server));
    absl::StrAppend(&report.text, server.text);
    Json json = {{"server", server.server}};
    json.update(OutcomeJson(server.status));
    json.update(server.json);
    list.push_back(std::move(json));
  }
  report.json = Json::object();
  if (servers.size() == 1) {
    report.json["server"] = servers.front().server;
    report.json.update(servers.front().json);
  }
  report.json["servers"] = std::move(list);
  return report;
}

Report FailedEarly(const absl::Status& status) {
  Report report;
  report.status = status;
  report.json = {{"servers", Json::array()}};
  return report;
}

}  // namespace weightstream::command
