#include "client/command/model_json.h"

#include <utility>

#include "client/command/formatting.h"

namespace weightstream::command {
namespace {

// null where there is no such time.
Json TimeJson(const google::protobuf::Timestamp& timestamp) {
  const std::string text = JsonTimeText(TimeOf(timestamp));
  return text.empty() ? Json() : Json(text);
}

Json VersionJson(const v1::VersionInfo& version) {
  return {{"version", version.version()}, {"total_bytes", version.total_bytes()},
          {"tensors", version.tensors()}, {"commit_time", TimeJson(version.commit_time())},
          {"path", version.path()},       {"exports", version.exports()}};
}

Json UpdateJson(const v1::UpdateInfo& update) {
  return {{"update_id", update.update_id()},
          {"version", update.version()},
          {"state", UpdateStateName(update.state())},
          {"total_bytes", update.total_bytes()},
          {"landed_bytes", update.landed_bytes()},
          {"percent", Percent(update.landed_bytes(), update.total_bytes())},
          {"begin_time", TimeJson(update.begin_time())},
          {"end_time", TimeJson(update.end_time())},
          {"reason", update.reason()},
          {"mode", UpdateModeName(update.mode())},
          {"source_id", update.source_id()},
          {"open_streams", update.open_streams()}};
}

// null where the server tells nobody.
Json CommitHookJson(const v1::Model& model) {
  if (!model.has_commit_hook()) return Json();
  const v1::CommitHook& hook = model.commit_hook();
  return {{"version", hook.version()},
          {"state", CommitHookStateName(hook.state())},
          {"attempts", hook.attempts()},
          {"message", hook.message()},
          {"time", TimeJson(hook.time())}};
}

// null where none are registered.
Json TargetsJson(const v1::Model& model) {
  if (!model.has_targets()) return Json();
  const v1::RegisteredTargets& targets = model.targets();
  return {{"owner", targets.owner()},
          {"tensors", targets.tensors()},
          {"bytes", targets.bytes()},
          {"state", WeightsStateName(targets.state().state())},
          {"version", targets.state().version()},
          {"next_version", targets.state().next_version()},
          {"overwritten_version", targets.state().overwritten_version()},
          {"unfinished_version", targets.state().unfinished_version()}};
}

}  // namespace

std::string CommitHookStateName(v1::CommitHookState state) {
  switch (state) {
    case v1::COMMIT_HOOK_STATE_PENDING:
      return "pending";
    case v1::COMMIT_HOOK_STATE_SUCCEEDED:
      return "succeeded";
    case v1::COMMIT_HOOK_STATE_FAILED:
      return "failed";
    default:
      return "unknown";
  }
}

std::string UpdateModeName(v1::UpdateMode mode) {
  switch (mode) {
    case v1::UPDATE_MODE_BESIDE:
      return "beside";
    case v1::UPDATE_MODE_IN_PLACE:
      return "in place";
    case v1::UPDATE_MODE_REGISTERED:
      return "registered";
    default:
      return "unknown";
  }
}

std::string WeightsStateName(v1::WeightsState state) {
  switch (state) {
    case v1::WEIGHTS_STATE_NONE:
      return "none";
    case v1::WEIGHTS_STATE_WHOLE:
      return "whole";
    case v1::WEIGHTS_STATE_UPDATING:
      return "updating";
    case v1::WEIGHTS_STATE_UNTRUSTED:
      return "untrusted";
    default:
      return "unknown";
  }
}

std::string UpdateStateName(v1::UpdateState state) {
  switch (state) {
    case v1::UPDATE_STATE_RECEIVING:
      return "receiving";
    case v1::UPDATE_STATE_COMMITTING:
      return "committing";
    case v1::UPDATE_STATE_COMMITTED:
      return "committed";
    case v1::UPDATE_STATE_ABORTED:
      return "aborted";
    default:
      return "unknown";
  }
}

bool InFlight(const v1::UpdateInfo& update) {
  return update.state() == v1::UPDATE_STATE_RECEIVING || update.state() == v1::UPDATE_STATE_COMMITTING;
}

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0 && timestamp.nanos() == 0) return absl::InfinitePast();
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

const v1::VersionInfo* CurrentVersion(const v1::Model& model) {
  for (const v1::VersionInfo& version : model.versions()) {
    if (version.version() == model.current_version()) return &version;
  }
  return nullptr;
}

Json ModelJson(const v1::Model& model) {
  Json versions = Json::array();
  for (const v1::VersionInfo& version : model.versions()) versions.push_back(VersionJson(version));
  Json updates = Json::array();
  for (const v1::UpdateInfo& update : model.updates()) updates.push_back(UpdateJson(update));
  return {{"name", model.name()},
          {"current_version", model.current_version()},
          {"highest_version", model.highest_version()},
          {"prepared_bytes", model.prepared_bytes()},
          {"weights_state", WeightsStateName(model.weights_state())},
          {"overwritten_version", model.overwritten_version()},
          {"unfinished_version", model.unfinished_version()},
          {"device", model.device()},
          {"device_error", model.device_error()},
          {"targets", TargetsJson(model)},
          {"commit_hook", CommitHookJson(model)},
          {"versions", std::move(versions)},
          {"updates", std::move(updates)}};
}

}  // namespace weightstream::command
