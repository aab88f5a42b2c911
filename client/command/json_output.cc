#include "client/command/json_output.h"

namespace weightstream::command {

Json OutcomeJson(const absl::Status& status) {
  Json json = {{"ok", status.ok()}};
  if (!status.ok()) {
    json["error"] = {{"code", absl::StatusCodeToString(status.code())}, {"message", std::string(status.message())}};
  }
  return json;
}

std::string JsonLine(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace weightstream::command
