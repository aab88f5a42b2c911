// Updates that are written over the current version, where the medium has no room for a second one.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/model.h"

namespace weightstream {

absl::StatusOr<UpdateArena> Model::ProvideArena(const ArenaRequest& request) {
  absl::StatusOr<absl::optional<UpdateArena>> registered = ProvideRegistered(request);
  if (!registered.ok()) return registered.status();
  if (registered->has_value()) return **std::move(registered);
  VersionMedium& medium = *context_.medium;
  absl::StatusOr<std::shared_ptr<Target>> target = medium.Provide(request);
  while (absl::IsResourceExhausted(target.status()) && medium.may_overwrite() && RemoveOldestForRoom()) {
    target = medium.Provide(request);
  }
  if (target.ok()) return UpdateArena{*std::move(target)};
  if (absl::IsResourceExhausted(target.status()) && medium.may_overwrite()) {
    return ProvideInPlace(request, target.status());
  }
  return target.status();
}

absl::StatusOr<UpdateArena> Model::ProvideInPlace(const ArenaRequest& request, const absl::Status& no_room) {
  uint64_t over = 0;
  uint32_t exports = 0;
  {
    absl::MutexLock lock(&mutex_);
    over = current_;
    if (IsPinned(over)) exports = pins_.at(over);
  }
  if (over == 0) return no_room;
  if (exports > 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(no_room.message(), "; nor can it be written over version ", over, ", which ", exports,
                     exports == 1 ? " process has" : " processes have", " open (ExportTarget)"));
  }
  absl::StatusOr<std::shared_ptr<Target>> target = context_.medium->ProvideInPlace(request, over);
  if (!target.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat(no_room.message(), "; ", target.status().message()));
  }
  LogWarning("update_in_place", {{"model", name_},
                                 {"version", absl::StrCat(over)},
                                 {"update", request.update_id},
                                 {"reason", std::string(no_room.message())}});
  return UpdateArena{
      .target = *std::move(target),
      .mode = UpdateMode::kInPlace,
      .over = over,
      .before_first_byte = [this, over](const Update& update) { return StartOverwriting(update, over); }};
}

bool Model::RemoveOldestForRoom() {
  VersionRecord removed;
  {
    absl::MutexLock lock(&mutex_);
    auto oldest = versions_.begin();
    while (oldest != versions_.end() && (oldest->version == current_ || IsPinned(oldest->version))) ++oldest;
    if (oldest == versions_.end()) return false;
    removed = std::move(*oldest);
    versions_.erase(oldest);
    Changed();
  }
  RemoveFromMedium(removed.version);
  return true;
}

absl::Status Model::StartOverwriting(const Update& update, uint64_t over) {
  bool lost = false;
  {
    absl::MutexLock lock(&mutex_);
    // Aborted meanwhile: what it would have overwritten stays whole.
    if (update_.get() != &update) return EndedUpdateStatus(update.Record());
    const bool registered = update.mode() == UpdateMode::kRegistered;
    // Another stream was first.
    if ((over == 0 || overwritten_ == over) && (!registered || targets_dirty_)) return absl::OkStatus();
    if (registered) {
      targets_dirty_ = true;
      targets_version_ = 0;
    }
    Changed();
    if (over == 0) return absl::OkStatus();
    for (auto it = versions_.begin(); it != versions_.end(); ++it) {
      if (it->version != over) continue;
      versions_.erase(it);
      break;
    }
    overwritten_ = over;
    lost = current_ == over;
    if (lost) current_ = 0;
    // Within the lock, so that no other stream writes before its readers are told. It only sets a mark.
    context_.medium->Overwritten(name_, over);
  }
  if (lost && context_.on_lost) context_.on_lost(name_);
  return absl::OkStatus();
}

absl::Status Model::OverwrittenStatus() const {
  if (update_ != nullptr && update_->mode() != UpdateMode::kBeside) {
    return absl::FailedPreconditionError(
        absl::StrCat("version ", overwritten_, " of model '", name_, "' is being overwritten in place by update ",
                     update_->identity().id, " to version ", update_->identity().version,
                     "; it is whole again once that is committed"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "version ", overwritten_, " of model '", name_,
      "' cannot be trusted: an update that was written over it in place did not come to its commit; push a "
      "version higher than ",
      highest_));
}

}  // namespace weightstream
