#include "client/command/watch_events.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/command/formatting.h"
#include "client/command/model_json.h"
#include "client/command/progress_line.h"

namespace weightstream::command {
namespace {

bool Changed(const v1::UpdateInfo& before, const v1::UpdateInfo& after) {
  return before.state() != after.state() || before.landed_bytes() != after.landed_bytes();
}

// null where there is nothing to come, or no rate to tell it from.
Json SecondsLeft(const WatchEvent& event) {
  if (event.state != "receiving" || event.bytes_per_second < 1 || event.landed_bytes >= event.total_bytes)
    return Json();
  return static_cast<double>(event.total_bytes - event.landed_bytes) / event.bytes_per_second;
}

std::string LineOf(const WatchEvent& event, std::string time, bool with_server) {
  std::vector<std::string> parts = {std::move(time)};
  if (with_server || event.model.empty()) parts.push_back(event.server);
  if (!event.model.empty()) parts.push_back(OneLine(event.model));
  parts.push_back(event.state);
  if (!event.model.empty()) {
    parts.push_back(event.version == 0 ? "no version" : absl::StrCat("version ", event.version));
  }
  if (event.state == "receiving") {
    parts.push_back(
        absl::StrCat(FormatPercent(event.landed_bytes, event.total_bytes), " of ", FormatBytes(event.total_bytes)));
    if (event.bytes_per_second >= 1) parts.push_back(FormatRate(event.bytes_per_second));
    const std::string left = TimeLeftText(event.landed_bytes, event.total_bytes, event.bytes_per_second);
    if (!left.empty()) parts.push_back(left);
  } else if (event.total_bytes > 0) {
    parts.push_back(FormatBytes(event.total_bytes));
  }
  if (!event.reason.empty()) parts.push_back(OneLine(event.reason));
  return absl::StrCat(absl::StrJoin(parts, "  "), "\n");
}

}  // namespace

Json WatchEventJson(const WatchEvent& event) {
  return {{"time", JsonTimeText(event.time)},
          {"server", event.server},
          {"model", event.model},
          {"state", event.state},
          {"version", event.version},
          {"landed_bytes", event.landed_bytes},
          {"total_bytes", event.total_bytes},
          {"percent", Percent(event.landed_bytes, event.total_bytes)},
          {"bytes_per_second", event.bytes_per_second},
          {"seconds_left", SecondsLeft(event)},
          {"reason", event.reason}};
}

std::string WatchEventText(const WatchEvent& event, bool with_server) {
  return LineOf(event, TimeText(event.time), with_server);
}

std::string WatchEventBrief(const WatchEvent& event, bool with_server) {
  return LineOf(event, absl::FormatTime("%H:%M:%S", event.time, absl::LocalTimeZone()), with_server);
}

WatchEvent WatchedServer::UpdateEvent(const std::string& name, const v1::UpdateInfo& update, absl::Time now) const {
  return {.time = now,
          .server = server_,
          .model = name,
          .state = UpdateStateName(update.state()),
          .version = update.version(),
          .landed_bytes = update.landed_bytes(),
          .total_bytes = update.total_bytes(),
          .reason = update.reason()};
}

std::vector<WatchEvent> WatchedServer::Take(const std::string& name, const v1::Model& model, absl::Time now) {
  std::vector<WatchEvent> events;
  const auto [place, first_sight] = models_.try_emplace(name);
  Seen& seen = place->second;
  std::map<std::string, Update> before = std::exchange(seen.updates, {});
  // The service lists the newest first; people read the oldest first.
  for (int i = model.updates_size() - 1; i >= 0; --i) {
    const v1::UpdateInfo& update = model.updates(i);
    const auto known = before.find(update.update_id());
    const bool news = known != before.end() ? Changed(known->second.last, update) : (InFlight(update) || !first_sight);
    Update& now_seen = seen.updates[update.update_id()];
    if (known != before.end()) now_seen.meter = std::move(known->second.meter);
    now_seen.meter.Add(now, update.landed_bytes());
    now_seen.last = update;
    if (known != before.end()) before.erase(known);
    if (!news) continue;
    events.push_back(UpdateEvent(name, update, now));
    if (InFlight(update)) events.back().bytes_per_second = now_seen.meter.BytesPerSecond(now);
  }
  for (auto& [id, lost] : before) {
    if (!InFlight(lost.last)) continue;
    lost.last.set_state(v1::UPDATE_STATE_ABORTED);
    lost.last.set_reason("the server no longer knows this update; it was restarted");
    events.push_back(UpdateEvent(name, lost.last, now));
  }
  if (first_sight || model.current_version() != seen.current_version) {
    seen.current_version = model.current_version();
    WatchEvent event = {
        .time = now, .server = server_, .model = name, .state = "current", .version = model.current_version()};
    if (const v1::VersionInfo* current = CurrentVersion(model); current != nullptr) {
      event.landed_bytes = event.total_bytes = current->total_bytes();
    }
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace weightstream::command
