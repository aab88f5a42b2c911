#include "client/command/status_text.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/command/formatting.h"
#include "client/command/model_json.h"
#include "client/command/progress_line.h"
#include "client/command/rate_meter.h"

namespace weightstream::command {
namespace {

// So that a terminal of 80 does not wrap.
constexpr size_t kColumns = 79;
// What leaves the other columns their room within it, with the server, where there are several.
constexpr size_t kModelColumns = 40;
// "192.168.100.100:65535"; a longer one, of a name, pushes its model aside.
constexpr size_t kServerColumns = 21;
constexpr size_t kVersionsColumns = 9;

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

// Over the whole of its time; 0 where the clocks do not agree on one.
double MeanRate(const v1::UpdateInfo& update, absl::Time now) {
  return BytesPerSecond(update.landed_bytes(), now - TimeOf(update.begin_time()));
}

// "receiving 42.1 %, 5.8/14.0 GiB, 1.23 GB/s, 6.6s left".
std::string UpdateText(const v1::UpdateInfo& update, absl::Time now) {
  std::vector<std::string> parts = {
      absl::StrCat(UpdateStateName(update.state()), " ", FormatPercent(update.landed_bytes(), update.total_bytes())),
      FormatBytesOf(update.landed_bytes(), update.total_bytes())};
  if (update.state() == v1::UPDATE_STATE_RECEIVING) {
    const double rate = MeanRate(update, now);
    if (rate >= 1) parts.push_back(FormatRate(rate));
    const std::string left = TimeLeftText(update.landed_bytes(), update.total_bytes(), rate);
    if (!left.empty()) parts.push_back(left);
  }
  return absl::StrJoin(parts, ", ");
}

using Rows = std::vector<std::vector<std::string>>;

constexpr const char* kColumnsOfAModel[] = {">CURRENT", "HELD", ">BYTES", ">AGE"};

std::vector<std::string> Titles(std::string first) {
  std::vector<std::string> titles = {std::move(first)};
  titles.insert(titles.end(), std::begin(kColumnsOfAModel), std::end(kColumnsOfAModel));
  return titles;
}

std::vector<std::string> Lines(absl::string_view text) { return absl::StrSplit(WrapLines(text, kColumns), '\n'); }

// In lines of at most kColumns, the second one and those after it indented.
std::vector<std::string> Folded(std::string name) {
  std::vector<std::string> lines;
  while (name.size() > kColumns) {
    lines.push_back(name.substr(0, kColumns));
    name.replace(0, kColumns, "  ");
  }
  lines.push_back(std::move(name));
  return lines;
}

// `server` is what stands before the model's name. Where both are too long for one line, each has its own.
void AddModel(std::string server, const v1::Model& model, absl::Time now, Rows& rows) {
  const v1::VersionInfo* current = CurrentVersion(model);
  std::string name = OneLine(model.name());
  std::string first = absl::StrCat(server, name);
  if (first.size() > kColumns) {
    absl::StripTrailingAsciiWhitespace(&server);
    if (!server.empty()) rows.push_back({std::exchange(server, "  ")});
    for (std::string& line : Folded(absl::StrCat(server, name))) rows.push_back({std::move(line)});
    first.clear();
  }
  rows.push_back({first, model.current_version() == 0 ? "-" : absl::StrCat(model.current_version()),
                  VersionsHeld(model, kVersionsColumns), current == nullptr ? "-" : FormatBytes(current->total_bytes()),
                  current == nullptr ? "-" : Age(TimeOf(current->commit_time()), now)});
  for (const v1::UpdateInfo& update : model.updates()) {
    if (InFlight(update)) rows.push_back({absl::StrCat("  ", update.version(), ": ", UpdateText(update, now))});
  }
}

// "no models", and where they would be; older servers do not say.
std::string NoModelsText(const v1::ListModelsResponse& answer) {
  return answer.device().empty() ? "no models" : absl::StrCat("no models, device ", OneLine(answer.device()));
}

// Nothing while it works.
std::string DeviceTrouble(const std::string& device, const std::string& error) {
  if (error.empty()) return "";
  return WrapLines(absl::StrCat("the device ", OneLine(device), " has failed:\n  ", OneLine(error), "\n"), kColumns);
}

// What of a mixture cannot be trusted, and how it came to be.
std::string UntrustedText(uint64_t overwritten, uint64_t unfinished) {
  if (overwritten == 0) {
    return absl::StrCat("version ", unfinished, " cannot be trusted: the update to it did not come to its commit");
  }
  return absl::StrCat("version ", overwritten, " cannot be trusted: an update in place",
                      unfinished == 0 ? "" : absl::StrCat(" to ", unfinished), " did not come to its commit");
}

// Nothing where all is as it should be.
std::string TroubleSection(const v1::Model& model) {
  std::string out = DeviceTrouble(model.device(), model.device_error());
  if (model.weights_state() == v1::WEIGHTS_STATE_UPDATING && model.overwritten_version() != 0) {
    absl::StrAppend(&out, "updating in place over version ", model.overwritten_version(),
                    ": no version is whole until the commit\n");
  } else if (model.weights_state() == v1::WEIGHTS_STATE_UPDATING) {
    absl::StrAppend(&out, "updating the registered targets to version ", model.unfinished_version(),
                    ": no version is whole there until the\n  commit\n");
  } else if (model.weights_state() == v1::WEIGHTS_STATE_UNTRUSTED) {
    absl::StrAppend(&out, UntrustedText(model.overwritten_version(), model.unfinished_version()),
                    ";\n  push a version higher than ", model.highest_version(), "\n");
  }
  return out;
}

// Where a version lies, and who has it open.
std::string PlaceText(const v1::Model& model, const v1::VersionInfo& version) {
  if (!version.path().empty() || model.device().empty()) return OneLine(version.path());
  if (version.exports() == 0) return absl::StrCat("in memory, ", OneLine(model.device()));
  return absl::StrCat("in memory, ", OneLine(model.device()), ", open in ", version.exports(),
                      version.exports() == 1 ? " process" : " processes");
}

std::string VersionsSection(const v1::Model& model) {
  if (model.versions().empty()) return "no version held\n";
  Rows rows;
  for (const v1::VersionInfo& version : model.versions()) {
    rows.push_back({absl::StrCat(version.version(), version.version() == model.current_version() ? " *" : ""),
                    absl::StrCat(version.tensors()), FormatBytes(version.total_bytes()),
                    TimeText(TimeOf(version.commit_time()))});
    // A path takes the room that it needs, and stands whole, to be copied.
    if (std::string place = PlaceText(model, version); !place.empty()) rows.push_back({absl::StrCat("  ", place)});
  }
  const std::string titles[] = {"VERSION", ">TENSORS", ">BYTES", "COMMITTED"};
  return absl::StrCat("versions held (* is current):\n", FormatTable(titles, rows, kModelColumns));
}

std::string WhereText(v1::UpdateMode mode) {
  if (mode == v1::UPDATE_MODE_IN_PLACE) return ",\n  in place, over the current version";
  return mode == v1::UPDATE_MODE_REGISTERED ? ",\n  into the targets that the inference server registered" : "";
}

// Nothing where none are registered.
std::string TargetsSection(const v1::Model& model) {
  if (!model.has_targets()) return "";
  const v1::RegisteredTargets& targets = model.targets();
  std::string out = absl::StrCat("targets registered by ", OneLine(targets.owner()), ": ", targets.tensors(),
                                 " tensors, ", FormatBytes(targets.bytes()), ",\n  ");
  switch (targets.state().state()) {
    case v1::WEIGHTS_STATE_WHOLE:
      absl::StrAppend(&out, "version ", targets.state().version());
      break;
    case v1::WEIGHTS_STATE_UPDATING:
      absl::StrAppend(&out, "updating to version ", targets.state().next_version(), ": whole after the commit");
      break;
    case v1::WEIGHTS_STATE_UNTRUSTED:
      absl::StrAppend(&out, UntrustedText(targets.state().overwritten_version(), targets.state().unfinished_version()));
      break;
    default:
      out += "no version written yet";
  }
  return absl::StrCat(out, "\n");
}

std::string InFlightSection(const v1::Model& model, absl::Time now) {
  std::string out;
  for (const v1::UpdateInfo& update : model.updates()) {
    if (!InFlight(update)) continue;
    absl::StrAppend(&out, "update in flight to version ", update.version(), ":\n  ", UpdateText(update, now), "\n  ",
                    update.open_streams(), update.open_streams() == 1 ? " stream" : " streams", ", begun ",
                    Age(TimeOf(update.begin_time()), now), " ago, update ", update.update_id(),
                    WhereText(update.mode()), "\n");
  }
  return out.empty() ? "no update in flight\n" : out;
}

std::string EndedSection(const v1::Model& model, absl::Time now) {
  Rows rows;
  for (const v1::UpdateInfo& update : model.updates()) {
    if (InFlight(update)) continue;
    rows.push_back({absl::StrCat(update.version()), UpdateStateName(update.state()),
                    FormatPercent(update.landed_bytes(), update.total_bytes()), Age(TimeOf(update.end_time()), now)});
    if (update.reason().empty()) continue;
    for (std::string& line : Lines(absl::StrCat("  ", OneLine(update.reason())))) rows.push_back({std::move(line)});
  }
  if (rows.empty()) return "";
  const std::string titles[] = {"VERSION", "STATE", ">LANDED", ">ENDED AGO"};
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

std::string ModelsTable(const v1::ListModelsResponse& answer, absl::Time now) {
  const std::string trouble = DeviceTrouble(answer.device(), answer.device_error());
  if (answer.models().empty()) return absl::StrCat(NoModelsText(answer), "\n", trouble);
  Rows rows;
  for (const v1::Model& model : answer.models()) AddModel("", model, now, rows);
  return absl::StrCat(FormatTable(Titles("MODEL"), rows, kModelColumns), trouble);
}

std::string FleetTable(const std::vector<ServerModels>& servers, absl::Time now) {
  size_t widest = sizeof("SERVER") - 1;
  for (const ServerModels& one : servers) widest = std::max(widest, one.server.size());
  widest = std::min(widest, kServerColumns);
  const auto with_server = [widest](const std::string& server, absl::string_view what) {
    return absl::StrCat(server, std::string(widest - std::min(widest, server.size()), ' '), "  ", what);
  };
  Rows rows;
  for (const ServerModels& one : servers) {
    if (!one.models.ok()) {
      rows.push_back({with_server(one.server, absl::StatusCodeToString(one.models.status().code()))});
      for (std::string& line : Lines(absl::StrCat("  ", OneLine(one.models.status().message())))) {
        rows.push_back({std::move(line)});
      }
      continue;
    }
    if (one.models->models().empty()) rows.push_back({with_server(one.server, NoModelsText(*one.models))});
    for (const v1::Model& model : one.models->models()) AddModel(with_server(one.server, ""), model, now, rows);
  }
  return FormatTable(Titles(with_server("SERVER", "MODEL")), rows, kModelColumns);
}

std::string ModelDetail(const v1::Model& model, absl::Time now) {
  std::string out = absl::StrCat(absl::StrJoin(Folded(absl::StrCat("model ", OneLine(model.name()))), "\n"), "\n");
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
  const auto wrapped = [](const std::string& section) { return WrapLines(section, kColumns); };
  absl::StrAppend(&out, wrapped(TroubleSection(model)), wrapped(TargetsSection(model)),
                  wrapped(CommitHookSection(model, now)), VersionsSection(model), wrapped(InFlightSection(model, now)),
                  EndedSection(model, now));
  return out;
}

}  // namespace weightstream::command
