// The JSON that `--json` prints: one object on one line, its members in the order in which they were added.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_JSON_OUTPUT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_JSON_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace weightstream::command {

using Json = nlohmann::ordered_json;

// {"ok": true} for OK; else {"ok": false, "error": {"code": "UNAVAILABLE", "message": "..."}}. The beginning of each
// object.
Json OutcomeJson(const absl::Status& status);

// On one line, with its line feed. Broken UTF-8 (a name from elsewhere) becomes U+FFFD: a reader must always be able to
// parse.
std::string JsonLine(const Json& json);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_JSON_OUTPUT_H_
