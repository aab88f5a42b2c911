#include "server/commit_hook_body.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/commit_hook.h"

namespace weightstream {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::string_view kNames[] = {"model", "version", "path", "folder"};

std::string ValueOf(absl::string_view name, const CurrentVersionEvent& event) {
  if (name == "model") return event.model;
  if (name == "version") return absl::StrCat(event.version);
  return name == "path" ? event.path : event.folder;
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == absl::string_view::npos;
}

// Calls `plain` with the parts between names in braces, and `name` with those names.
template <typename Plain, typename Name>
void Split(absl::string_view text, const Plain& plain, const Name& name) {
  while (!text.empty()) {
    const size_t open = text.find('{');
    const size_t close = open == absl::string_view::npos ? open : text.find_first_of("{}", open + 1);
    if (close == absl::string_view::npos) break;
    const absl::string_view inside = text.substr(open + 1, close - open - 1);
    const bool is_name = text[close] == '}' && IsName(inside);
    plain(text.substr(0, is_name ? open : close));
    if (is_name) name(inside);
    text.remove_prefix(is_name ? close + 1 : close);
  }
  plain(text);
}

absl::Status CheckNames(absl::string_view text) {
  absl::Status checked;
  Split(
      text, [](absl::string_view) {},
      [&](absl::string_view name) {
        for (const absl::string_view known : kNames) {
          if (name == known) return;
        }
        checked.Update(absl::InvalidArgumentError(
            absl::StrCat("has {", name, "}; there are {model}, {version}, {path} and {folder}")));
      });
  return checked;
}

absl::Status Check(const Json& json) {
  if (json.is_string()) return CheckNames(json.get_ref<const std::string&>());
  absl::Status checked;
  for (const auto& item : json.items()) {
    if (item.value().is_primitive() && !item.value().is_string()) continue;
    checked.Update(Check(item.value()));
  }
  return checked;
}

void FillIn(Json& json, const CurrentVersionEvent& event) {
  if (json.is_string()) {
    std::string filled;
    Split(
        json.get_ref<const std::string&>(), [&](absl::string_view plain) { absl::StrAppend(&filled, plain); },
        [&](absl::string_view name) { absl::StrAppend(&filled, ValueOf(name, event)); });
    json = filled;
  } else if (json.is_structured()) {
    for (auto& item : json) FillIn(item, event);
  }
}

}  // namespace

absl::StatusOr<CommitHookBody> CommitHookBody::Parse(absl::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_structured()) {
    return absl::InvalidArgumentError("is no JSON object, such as {\"model_path\": \"{folder}\"}");
  }
  if (absl::Status checked = Check(json); !checked.ok()) return checked;
  return CommitHookBody(std::string(text));
}

std::string CommitHookBody::Fill(const CurrentVersionEvent& event) const {
  if (text_.empty()) return "";
  Json json = Json::parse(text_, nullptr, /*allow_exceptions=*/false);
  FillIn(json, event);
  // A path may hold what is no UTF-8, which JSON cannot say.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool CommitHookBody::names_files() const { return Fill({"", 0, "", ""}) != Fill({"", 0, "/", "/"}); }

}  // namespace weightstream
