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
  // Whoever begins an update and sends nothing, or next to nothing, keeps nobody out.
  if (absl::IsResourceExhausted(target.status()) && context_.end_stalled_for_room) {
    const uint64_t lacking = medium.LackingBytes(request);
    if (lacking > 0 && context_.end_stalled_for_room(lacking, request.subject)) target = medium.Provide(request);
  }
  if (target.ok()) return UpdateArena{*std::move(target)};
  if (!absl::IsResourceExhausted(target.status()) || !medium.may_overwrite()) return target.status();
  target = ProvideForOlder(request, target.status());
  if (target.ok()) return UpdateArena{*std::move(target)};
  if (!absl::IsResourceExhausted(target.status())) return target.status();
  return ProvideInPlace(request, target.status());
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
  LogWarning(
      "update_in_place",
      {{"model", name_}, {"version", over}, {"update", request.update_id}, {"reason", std::string(no_room.message())}});
  return UpdateArena{
      .target = *std::move(target),
      .mode = UpdateMode::kInPlace,
      .over = over,
      .before_first_byte = [this, over](const Update& update) { return StartOverwriting(update, over); }};
}

std::vector<uint64_t> Model::RemovableForRoom() const {
  std::vector<uint64_t> removable;
  absl::MutexLock lock(&mutex_);
  for (const VersionRecord& held : versions_) {
    if (!MustStay(held.version)) removable.push_back(held.version);
  }
  return removable;
}

absl::StatusOr<std::shared_ptr<Target>> Model::ProvideForOlder(const ArenaRequest& request,
                                                               const absl::Status& no_room) {
  const std::vector<uint64_t> removable = RemovableForRoom();
  if (removable.empty()) return no_room;
  const absl::StatusOr<std::vector<uint64_t>> removed = context_.medium->MakeRoom(request, removable);
  if (!removed.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat(no_room.message(), "; ", removed.status().message()));
  }
  for (const uint64_t version : *removed) {
    LogInfo("version_removed",
            {{"model", name_}, {"version", version}, {"update", request.update_id}, {"reason", "room for it"}});
  }
  {
    absl::MutexLock lock(&mutex_);
    for (const uint64_t version : *removed) EraseVersion(version);
    Changed();
  }
  return context_.medium->Provide(request);
}

absl::Status Model::StartOverwriting(const Update& update, uint64_t over) {
  bool lost = false;
  {
    absl::MutexLock lock(&mutex_);
    // Aborted meanwhile: what it would have overwritten stays whole.
    if (update_.get() != &update) return EndedUpdateStatus(update.Record());
    const bool registered = update.mode() == UpdateMode::kRegistered;
    const uint64_t version = update.identity().version;
    // Another stream was first.
    if ((over == 0 || overwritten_ == over) && unfinished_ == version && (!registered || targets_dirty_)) {
      return absl::OkStatus();
    }
    unfinished_ = version;
    if (over != 0) overwritten_ = over;
    if (registered) {
      // What they held before, if anything, was not written by an update; and what another memory held is gone with it.
      if (!targets_dirty_) overwritten_ = over;
      targets_dirty_ = true;
      targets_version_ = 0;
      lost = true;
    }
    Changed();
    if (over != 0) {
      EraseVersion(over);
      if (current_ == over) {
        current_ = 0;
        lost = true;
      }
      // Within the lock, so that no other stream writes before its readers are told. It only sets a mark.
      context_.medium->Overwritten(name_, over);
    }
  }
  if (lost && context_.on_lost) context_.on_lost(name_);
  return absl::OkStatus();
}

absl::Status Model::UnfinishedStatus() const {
  const bool updating =
      update_ != nullptr && update_->mode() != UpdateMode::kBeside && update_->identity().version == unfinished_;
  const std::string subject =
      absl::StrCat("version ", overwritten_ != 0 ? overwritten_ : unfinished_, " of model '", name_, "' ");
  if (updating) {
    const std::string& id = update_->identity().id;
    return absl::FailedPreconditionError(absl::StrCat(
        subject,
        overwritten_ != 0 ? absl::StrCat("is being overwritten in place by update ", id, " to version ", unfinished_)
                          : absl::StrCat("is being written into registered targets by update ", id),
        "; it is whole again once that is committed"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(subject, "cannot be trusted: ",
                   overwritten_ != 0 ? absl::StrCat("an update to version ", unfinished_, " that was written over it")
                                     : "the update to it that was written",
                   " in place did not come to its commit; push a version higher than ", highest_));
}

}  // namespace weightstream
