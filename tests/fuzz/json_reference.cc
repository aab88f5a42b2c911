#include "tests/fuzz/json_reference.h"

#include <algorithm>
#include <utility>

namespace weightstream {
namespace {

using Json = nlohmann::json;

// One level of the document: the keys that were seen in it, and the one whose value is being read.
struct Level {
  std::set<std::string> seen;
  std::string key;
};

std::vector<std::string> PathOf(const std::vector<Level>& levels) {
  std::vector<std::string> path;
  for (const Level& level : levels) path.push_back(level.key);
  return path;
}

}  // namespace

absl::optional<JsonReference> ReadJson(absl::string_view text) {
  // The library takes a NUL byte for the end of the text.
  if (text.find('\0') != absl::string_view::npos) return absl::nullopt;
  JsonReference reference;
  std::vector<Level> levels;
  const auto note = [&](int, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        levels.emplace_back();
        reference.depth = std::max(reference.depth, levels.size());
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end:
        levels.pop_back();
        break;
      case Json::parse_event_t::key:
        levels.back().key = parsed.get<std::string>();
        if (!levels.back().seen.insert(levels.back().key).second) reference.repeated.insert(PathOf(levels));
        break;
      case Json::parse_event_t::value:
        break;
    }
    return true;
  };
  reference.value = Json::parse(text.begin(), text.end(), note, /*allow_exceptions=*/false);
  if (reference.value.is_discarded()) return absl::nullopt;
  return reference;
}

}  // namespace weightstream
