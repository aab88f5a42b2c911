#include "client/version_choice.h"

#include <algorithm>

namespace weightstream {
namespace {

bool InFlight(const v1::UpdateInfo& update) {
  return update.state() == v1::UPDATE_STATE_RECEIVING || update.state() == v1::UPDATE_STATE_COMMITTING;
}

}  // namespace

uint64_t ChooseVersion(const std::vector<v1::Model>& models, const std::string& source_id) {
  uint64_t committed = 0;
  uint64_t in_flight = 0;
  uint64_t ours = 0;
  for (const v1::Model& model : models) {
    committed = std::max({committed, model.highest_version(), model.current_version()});
    for (const v1::UpdateInfo& update : model.updates()) {
      if (!InFlight(update)) continue;
      in_flight = std::max(in_flight, update.version());
      // One that is being committed is not to be resumed any more.
      if (update.state() == v1::UPDATE_STATE_RECEIVING && update.source_id() == source_id) {
        ours = std::max(ours, update.version());
      }
    }
  }
  // A server with a newer update in flight would refuse an older one, as would one that has committed it.
  if (ours > committed && ours == in_flight) return ours;
  return std::max(committed, in_flight) + 1;
}

}  // namespace weightstream
