// Updates that are written into memory which an inference server owns and has registered.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log.h"
#include "server/model.h"
#include "server/model_operation.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// A stream that was cut leaves, and a copy that was started completes, within milliseconds.
constexpr absl::Duration kLeavingPatience = absl::Seconds(2);
constexpr absl::Duration kLeavingPoll = absl::Milliseconds(5);

// Asks again and again: nothing tells when the last owner of something lets go. False if that takes longer.
template <typename T>
bool AwaitExpired(const std::weak_ptr<T>& object, absl::Duration patience) {
  const absl::Duration deadline = MonotonicNow() + patience;
  while (!object.expired() && MonotonicNow() < deadline) absl::SleepFor(kLeavingPoll);
  return object.expired();
}

}  // namespace

absl::Status Model::RegisterTargets(std::shared_ptr<const RegisteredTargets> targets) {
  Operation operation(*this, "registration");
  if (!operation.status().ok()) return operation.status();
  {
    absl::MutexLock lock(&mutex_);
    if (targets_ != nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("model '", name_, "' has targets already, which ",
                                                        targets_->owner(), " registered; end that call first"));
    }
  }
  // Their owner may still be waiting to see them gone, and one registration is all that is shown.
  if (!AwaitTargetsClosed(kLeavingPatience)) {
    return absl::UnavailableError(absl::StrCat("the targets of model '", name_,
                                               "' whose registration ended before are still in use, by a copy that "
                                               "does not complete; try again later"));
  }
  if (absl::Status checked = CheckAgainstCurrent(targets); !checked.ok()) return checked;
  if (const std::shared_ptr<Update> update = update_in_flight(); update != nullptr) {
    EndUpdate(update, UpdateOutcome::kSuperseded,
              absl::StrCat("superseded by the targets that ", targets->owner(),
                           " registered, into which updates are written from now on; begin it again"));
  }
  absl::MutexLock lock(&mutex_);
  targets_ = std::move(targets);
  targets_version_ = 0;
  targets_dirty_ = false;
  Changed();
  return absl::OkStatus();
}

absl::Status Model::CheckAgainstCurrent(const std::shared_ptr<const RegisteredTargets>& targets) {
  const absl::StatusOr<VersionRecord> current = FindVersion(0);
  // Nothing to contradict: the next update will be checked.
  if (!current.ok()) return absl::OkStatus();
  const absl::StatusOr<std::shared_ptr<const ReadableVersion>> open = context_.medium->Open(name_, current->version);
  if (!open.ok()) return open.status();
  absl::Status bound = BoundTargets::Bind(targets, (*open)->layout()).status();
  if (bound.ok()) return bound;
  return absl::Status(bound.code(), absl::StrCat("version ", current->version, " of model '", name_,
                                                 "', which is current: ", bound.message()));
}

absl::StatusOr<absl::optional<UpdateArena>> Model::ProvideRegistered(const ArenaRequest& request) {
  std::shared_ptr<const RegisteredTargets> targets;
  uint64_t over = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (targets_ == nullptr) return absl::optional<UpdateArena>();
    targets = targets_;
    over = targets_version_;
  }
  absl::StatusOr<std::shared_ptr<BoundTargets>> bound = BoundTargets::Bind(std::move(targets), *request.layout);
  if (!bound.ok())
    return absl::Status(bound.status().code(), absl::StrCat(request.subject, ": ", bound.status().message()));
  // It is the same memory: what is left of the update before would be written over this one's bytes.
  if (!AwaitTargetsLeft(kLeavingPatience)) {
    return absl::UnavailableError(absl::StrCat(request.subject,
                                               ": copies of the update before, which has ended, are "
                                               "still under way into the targets; try again later"));
  }
  return absl::optional<UpdateArena>(
      UpdateArena{*bound, UpdateMode::kRegistered, over, *bound,
                  [this, over](const Update& update) { return StartOverwriting(update, over); }});
}

bool Model::UnregisterTargets(absl::string_view reason) {
  bool left = false;
  // However long others take: what is written there must end. Each of them has a deadline of its own.
  for (;;) {
    const Operation operation(*this, "end of a registration");
    if (!operation.status().ok()) {
      LogWarning("cannot_unregister_yet", {{"model", name_}, {"error", operation.status().ToString()}});
      continue;
    }
    EndUpdateIntoTargets(reason);
    left = AwaitTargetsLeft(context_.limits->copy_wait);
    if (!left) {
      LogWarning("targets_still_written",
                 {{"model", name_}, {"note", "a copy does not complete; the memory stays open until it does"}});
    }
    const uint64_t held = ForgetTargetsVersion();
    if (held != 0) RemoveFromMedium(held, "");
    // Last: whoever sees them no more knows that they are closed.
    ForgetTargets();
    break;
  }
  if (context_.on_lost) context_.on_lost(name_);
  return left;
}

void Model::EndUpdateIntoTargets(absl::string_view reason) {
  const std::shared_ptr<Update> update = update_in_flight();
  if (update == nullptr || update->mode() != UpdateMode::kRegistered) return;
  EndUpdate(update, UpdateOutcome::kAborted, reason);
}

bool Model::AwaitTargetsLeft(absl::Duration patience) const {
  std::weak_ptr<const Update> update;
  {
    absl::MutexLock lock(&mutex_);
    update = into_targets_;
  }
  return AwaitExpired(update, patience);
}

uint64_t Model::ForgetTargetsVersion() {
  absl::MutexLock lock(&mutex_);
  const uint64_t held = std::exchange(targets_version_, 0);
  EraseVersion(held);
  if (current_ == held) current_ = 0;
  Changed();
  return held;
}

void Model::ForgetTargets() {
  {
    // Closed without the lock.
    std::shared_ptr<const RegisteredTargets> targets;
    absl::MutexLock lock(&mutex_);
    closing_targets_ = Targets();
    closing_targets_.closing = true;
    targets = std::exchange(targets_, nullptr);
    closing_ = targets->open();
    targets_dirty_ = false;
    // What was overwritten in them goes with them, and stays named until a version is whole: it may be in use yet.
    if (current_ != 0) overwritten_ = unfinished_ = 0;
    Changed();
  }
  if (!AwaitTargetsClosed(kLeavingPatience)) return;
  absl::MutexLock lock(&mutex_);
  Changed();
}

bool Model::AwaitTargetsClosed(absl::Duration patience) const {
  std::weak_ptr<const void> closing;
  {
    absl::MutexLock lock(&mutex_);
    closing = closing_;
  }
  return AwaitExpired(closing, patience);
}

TargetsRecord Model::Targets() const {
  if (targets_ == nullptr) return closing_.expired() ? TargetsRecord() : closing_targets_;
  return {.owner = targets_->owner(),
          .tensors = targets_->tensors().size(),
          .bytes = targets_->bytes(),
          .version = targets_version_,
          .dirty = targets_dirty_,
          .overwritten = overwritten_,
          .unfinished = unfinished_};
}

}  // namespace weightstream
