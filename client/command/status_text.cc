#include "client/command/status_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/command/formatting.h"
#include "client/command/model_json.h"

namespace weightstream::command {
namespace {

// What leaves the other columns their room within 80.
constexpr size_t kModelColumns = 20;
constexpr size_t kVersionsColumns = 12;

// The server's clock may be ahead of ours.
std::string Age(absl::Time then, absl::Time now) {
  return then == absl::InfinitePast() ? "-" : DurationText(std::max(absl::ZeroDuration(), now - then));
}

std::string VersionsHeld(const v1::Model& model, size_t most) {
  std::vector<uint64_t> versions;
  for (const v1::VersionInfo& version : model.versions()) versions.push_back(version.version());
  const std::string text = FormatVersions(versions);
  if (text.size() <= most) return text;
  return absl::StrCat(versions.size(), " held");
}

std::string UpdateInFlight(const v1::Model& model) {
  for (const v1::UpdateInfo& update : model.updates()) {
    if (!InFlight(update)) continue;
    return absl::StrCat(update.version(), " ", FormatPercent(update.landed_bytes(), update.total_bytes()), " ",
                        UpdateStateName(update.state()));
  }
  return "-";
}

std::string VersionsSection(const v1::Model& model, absl::Time now) {
  if (model.versions().empty()) return "no version held\n";
  std::vector<std::vector<std::string>> rows;
  for (const v1::VersionInfo& version : model.versions()) {
    rows.push_back({absl::StrCat(version.version(), version.version() == model.current_version() ? " *" : ""),
                    absl::StrCat(version.tensors()), FormatBytes(version.total_bytes()),
                    TimeText(TimeOf(version.commit_time())), OneLine(version.path())});
  }
  const std::string titles[] = {"VERSION", ">TENSORS", ">BYTES", "COMMITTED", "FILE"};
  return absl::StrCat("versions held (* is current):\n", FormatTable(titles, rows, kModelColumns));
}

std::string InFlightSection(const v1::Model& model, absl::Time now) {
  std::string out;
  for (const v1::UpdateInfo& update : model.updates()) {
    if (!InFlight(update)) continue;
    absl::StrAppend(&out, "update in flight: version ", update.version(), ", ", UpdateStateName(update.state()), ", ",
                    FormatPercent(update.landed_bytes(), update.total_bytes()), " of ",
                    FormatBytes(update.total_bytes()), ",\n  ", update.open_streams(),
                    update.open_streams() == 1 ? " stream" : " streams", ", begun ",
                    Age(TimeOf(update.begin_time()), now), " ago\n");
  }
  return out.empty() ? "no update in flight\n" : out;
}

std::string EndedSection(const v1::Model& model, absl::Time now) {
  std::vector<std::vector<std::string>> rows;
  for (const v1::UpdateInfo& update : model.updates()) {
    if (InFlight(update)) continue;
    rows.push_back({absl::StrCat(update.version()), UpdateStateName(update.state()),
                    FormatPercent(update.landed_bytes(), update.total_bytes()), Age(TimeOf(update.end_time()), now),
                    OneLine(update.reason())});
  }
  if (rows.empty()) return "";
  const std::string titles[] = {"VERSION", "STATE", ">LANDED", ">ENDED AGO", "REASON"};
  return absl::StrCat("updates that ended, the newest first:\n", FormatTable(titles, rows, kModelColumns));
}

// One line a model, whatever the inference server said.
std::string CommitHookSection(const v1::Model& model, absl::Time now) {
  if (!model.has_commit_hook()) return "";
  const v1::CommitHook& hook = model.commit_hook();
  std::string out = absl::StrCat("commit hook for version ", hook.version(), ": ", CommitHookStateName(hook.state()),
                                 ", ", hook.attempts(), hook.attempts() == 1 ? " attempt" : " attempts");
  if (!hook.message().empty()) {
    absl::StrAppend(&out, ", the last ", Age(TimeOf(hook.time()), now), " ago:\n  ", OneLine(hook.message()));
  }
  return absl::StrCat(out, "\n");
}

}  // namespace

std::string ModelsTable(const std::vector<v1::Model>& models, absl::Time now) {
  if (models.empty()) return "no models\n";
  std::vector<std::vector<std::string>> rows;
  for (const v1::Model& model : models) {
    const v1::VersionInfo* current = CurrentVersion(model);
    rows.push_back({OneLine(model.name()), model.current_version() == 0 ? "-" : absl::StrCat(model.current_version()),
                    VersionsHeld(model, kVersionsColumns),
                    current == nullptr ? "-" : FormatBytes(current->total_bytes()),
                    current == nullptr ? "-" : Age(TimeOf(current->commit_time()), now), UpdateInFlight(model)});
  }
  const std::string titles[] = {"MODEL", ">CURRENT", "HELD", ">BYTES", ">AGE", "UPDATE"};
  return FormatTable(titles, rows, kModelColumns);
}

std::string ModelDetail(const v1::Model& model, absl::Time now) {
  std::string out = absl::StrCat("model ", OneLine(model.name()), "\n");
  if (model.current_version() == 0) {
    absl::StrAppend(&out, "no version is current\n");
  } else {
    absl::StrAppend(&out, "current version ", model.current_version());
    if (const v1::VersionInfo* current = CurrentVersion(model); current != nullptr) {
      absl::StrAppend(&out, ", ", FormatBytes(current->total_bytes()), ", committed ",
                      Age(TimeOf(current->commit_time()), now), " ago");
    }
    out += '\n';
  }
  if (model.highest_version() != model.current_version()) {
    absl::StrAppend(&out, "highest version ", model.highest_version(), ": the next must be higher\n");
  }
  if (model.prepared_bytes() > 0) {
    absl::StrAppend(&out, "prepared for the next version: ", FormatBytes(model.prepared_bytes()), "\n");
  }
  absl::StrAppend(&out, CommitHookSection(model, now), VersionsSection(model, now), InFlightSection(model, now),
                  EndedSection(model, now));
  return out;
}

}  // namespace weightstream::command
