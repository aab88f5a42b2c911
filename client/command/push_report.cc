#include "client/command/push_report.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/command/formatting.h"
#include "client/command/rate_meter.h"

namespace weightstream::command {
namespace {

absl::Duration TotalTime(const ServerOutcome& outcome) {
  return outcome.begin_time + outcome.send_time + outcome.commit_time;
}

// Of what went over the wire, while it did.
double SendRate(const ServerOutcome& outcome) { return BytesPerSecond(outcome.sent_bytes, outcome.send_time); }

std::string ServerText(const PushResult& result, const ServerOutcome& outcome) {
  if (!outcome.status.ok()) {
    return absl::StrCat(outcome.server, ": ", absl::StatusCodeToString(outcome.status.code()), ": ",
                        OneLine(outcome.status.message()), "\n");
  }
  std::vector<std::string> parts = {
      absl::StrCat("version ", result.version),
      absl::StrCat(FormatBytes(result.total_bytes), " in ", DurationText(TotalTime(outcome)))};
  if (outcome.sent_bytes > 0) parts.push_back(FormatRate(SendRate(outcome)));
  if (outcome.resumed_bytes > 0) {
    parts.push_back(absl::StrCat("resumed, ", FormatBytes(outcome.resumed_bytes), " were there already"));
  }
  if (outcome.retries > 0) parts.push_back(absl::StrCat(outcome.retries, outcome.retries == 1 ? " retry" : " retries"));
  return absl::StrCat(outcome.server, ": ", absl::StrJoin(parts, ", "), "\n");
}

Json ServerJson(const ServerOutcome& outcome) {
  Json json = {{"server", outcome.server}};
  json.update(OutcomeJson(outcome.status));
  json.update({{"sent_bytes", outcome.sent_bytes},
               {"resumed_bytes", outcome.resumed_bytes},
               {"retries", outcome.retries},
               {"path", outcome.path},
               {"update_id", outcome.update_id},
               {"traceparent", outcome.traceparent},
               {"begin_seconds", absl::ToDoubleSeconds(outcome.begin_time)},
               {"send_seconds", absl::ToDoubleSeconds(outcome.send_time)},
               {"commit_seconds", absl::ToDoubleSeconds(outcome.commit_time)},
               {"bytes_per_second", SendRate(outcome)}});
  return json;
}

}  // namespace

Report ReportPush(const std::string& model, const PushResult& result) {
  Report report;
  report.status = result.status;
  Json servers = Json::array();
  for (const ServerOutcome& outcome : result.servers) {
    absl::StrAppend(&report.text, ServerText(result, outcome));
    servers.push_back(ServerJson(outcome));
  }
  const auto committed = std::count_if(result.servers.begin(), result.servers.end(),
                                       [](const ServerOutcome& outcome) { return outcome.status.ok(); });
  report.json = {{"model", model},
                 {"version", result.version},
                 {"total_bytes", result.total_bytes},
                 {"tensors", result.tensors},
                 {"seconds", absl::ToDoubleSeconds(result.elapsed)},
                 {"committed_servers", committed},
                 {"servers", std::move(servers)}};
  return report;
}

}  // namespace weightstream::command
