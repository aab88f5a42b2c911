#include "server/model_registry.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/log.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// How often a drain looks whether updates are left: AwaitChange of one model wakes for that model only.
constexpr absl::Duration kDrainPoll = absl::Milliseconds(50);

// Of manifests that are kept: enough for three models of 100,000 tensors, or for some hundred of ordinary ones.
constexpr uint64_t kMostKnownBytes = 64 << 20;

// 128 random bits: an id must not be guessed, and must not come again after a restart.
std::string NewUpdateId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

void LogCannotAbort(const Update& update, const absl::Status& why) {
  const LogTrace trace(update.trace());
  LogWarning("cannot_abort",
             {{"model", update.identity().model}, {"update", update.identity().id}, {"error", why.ToString()}});
}

}  // namespace

ModelRegistry::ModelRegistry(VersionMedium& medium, const Limits& limits, Metrics& metrics, Observers observers)
    : medium_(medium),
      limits_(limits),
      metrics_(metrics),
      observers_(std::move(observers)),
      slots_(limits.updates),
      manifests_(kMostKnownBytes) {
  for (const StoredModel& stored : medium_.Recovered()) {
    const auto model = std::make_shared<Model>(stored, Context());
    models_[stored.name] = model;
    model->ApplyRetention();
    if (stored.current != 0 && observers_.on_current) observers_.on_current(stored.name, stored.current, "");
  }
}

ModelContext ModelRegistry::Context() {
  ModelContext context{&medium_, &limits_, &metrics_, &slots_};
  context.end_stalled_for_room = [this](uint64_t lacking_bytes, absl::string_view subject) {
    return EndStalledForRoom(lacking_bytes, subject);
  };
  context.end_stalled_for_place = [this] { EndStalledForPlace(); };
  context.on_current = observers_.on_current;
  context.on_lost = observers_.on_lost;
  return context;
}

absl::StatusOr<BegunUpdate> ModelRegistry::Begin(const std::string& model, BeginParams params) {
  absl::StatusOr<std::shared_ptr<Model>> found = FindOrAdd(model);
  if (!found.ok()) return found.status();
  std::shared_ptr<const std::string> wire = params.wire;
  if (params.known != nullptr) wire = params.known->wire;
  const std::shared_ptr<const KnownManifest> known = params.known;
  absl::StatusOr<BegunUpdate> begun = (*found)->Begin(NewUpdateId(), std::move(params));
  if (!begun.ok() || begun->resumed || wire == nullptr || wire->empty()) return begun;
  const Update& update = *begun->update;
  // With other metadata the layout is another.
  if (known != nullptr && known->layout == update.shared_layout()) {
    manifests_.Used(model);
  } else {
    // The model is held here, and so is not forgotten before its manifest is kept.
    manifests_.Keep(model, std::make_shared<const KnownManifest>(
                               KnownManifest{wire, update.shared_layout(), update.manifest_crc32c()}));
  }
  return begun;
}

std::vector<ModelRegistry::Stalled> ModelRegistry::AllStalled() const {
  const absl::Duration now = MonotonicNow();
  std::vector<Stalled> stalled;
  for (const std::shared_ptr<Model>& model : All()) {
    const std::shared_ptr<Update> update = model->update_in_flight();
    if (update == nullptr || update->state() != UpdateState::kReceiving) continue;
    // Read once: a chunk may come while they are put in order.
    const absl::Duration last = update->last_activity();
    if (now - last >= limits_.silent_call) {
      stalled.push_back({model, update, last, absl::StrCat("no chunk for ", absl::FormatDuration(now - last))});
    } else if (absl::optional<std::string> why = model->WhyTooSlow(*update); why.has_value()) {
      stalled.push_back({model, update, last, *std::move(why)});
    }
  }
  std::sort(stalled.begin(), stalled.end(), [](const Stalled& a, const Stalled& b) { return a.last < b.last; });
  return stalled;
}

void ModelRegistry::EndStalled(const Stalled& stalled, absl::string_view for_whom) {
  const absl::Status aborted =
      stalled.model->Abort(stalled.update->identity().id, absl::StrCat(stalled.why, ", and ", for_whom));
  if (!aborted.ok()) LogCannotAbort(*stalled.update, aborted);
}

void ModelRegistry::EndStalledForPlace() {
  std::vector<Stalled> stalled = AllStalled();
  if (stalled.empty()) return;
  // Where one is written over a version there may be none left without it.
  std::stable_partition(stalled.begin(), stalled.end(),
                        [](const Stalled& each) { return each.update->mode() == UpdateMode::kBeside; });
  EndStalled(stalled.front(),
             absl::StrCat("another update needed its place among ", limits_.updates, " (--max-updates)"));
}

bool ModelRegistry::EndStalledForRoom(uint64_t lacking_bytes, absl::string_view subject) {
  std::vector<Stalled> ended;
  uint64_t freed = 0;
  for (Stalled& stalled : AllStalled()) {
    // The others have no memory of their own.
    if (stalled.update->mode() != UpdateMode::kBeside || freed >= lacking_bytes) continue;
    freed += std::as_const(*stalled.update).target().bytes();
    ended.push_back(std::move(stalled));
  }
  if (freed < lacking_bytes) return false;
  for (Stalled& stalled : ended) {
    // Its sender may know nothing of other models: the name is for the log.
    LogInfo(
        "update_gives_way",
        {{"model", stalled.model->name()}, {"update", stalled.update->identity().id}, {"to", std::string(subject)}});
    EndStalled(stalled, "another update needed its room");
    // Its memory is free once they have left, and we have.
    stalled.update->CutStreams(kCutPatience);
    stalled.update.reset();
  }
  return true;
}

absl::StatusOr<std::shared_ptr<Model>> ModelRegistry::FindOrAdd(const std::string& model) {
  if (absl::Status valid = ValidateModelName(model); !valid.ok()) return valid;
  // Freed once the lock is let go.
  std::vector<std::shared_ptr<const KnownManifest>> forgotten;
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("the server is shutting down and begins no update; try again later");
  const auto found = models_.find(model);
  if (found != models_.end()) return found->second;
  if (models_.size() >= limits_.models) {
    // Names whose updates all failed hold nothing: they make room.
    for (auto it = models_.begin(); it != models_.end();) {
      // One that somebody else holds is about to begin an update. Pointers are given out under this lock only.
      if (it->second.use_count() > 1 || !it->second->IsForgettable()) {
        ++it;
        continue;
      }
      forgotten.push_back(manifests_.Forget(it->first));
      it = models_.erase(it);
    }
  }
  if (models_.size() >= limits_.models) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this server knows ", models_.size(), " models and takes no more (--max-models)"));
  }
  auto added = std::make_shared<Model>(StoredModel{model, 0, {}}, Context());
  models_[model] = added;
  added_.SignalAll();
  return added;
}

absl::StatusOr<std::shared_ptr<Model>> ModelRegistry::Find(const std::string& model) const {
  absl::MutexLock lock(&mutex_);
  const auto found = models_.find(model);
  if (found != models_.end()) return found->second;
  return absl::NotFoundError(
      absl::StrCat("there is no model '", Printable(model), "' here; ListModels tells which there are"));
}

void ModelRegistry::AwaitNewModel(const std::string& model, absl::Duration patience) const {
  const auto known = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return models_.count(model) > 0; };
  absl::MutexLock lock(&mutex_);
  added_.AwaitFor(mutex_, patience, known);
}

std::vector<std::shared_ptr<Model>> ModelRegistry::All() const {
  std::vector<std::shared_ptr<Model>> all;
  absl::MutexLock lock(&mutex_);
  all.reserve(models_.size());
  for (const auto& entry : models_) all.push_back(entry.second);
  return all;
}

absl::StatusOr<std::shared_ptr<Update>> ModelRegistry::FindUpdate(absl::string_view update_id) const {
  absl::StatusOr<std::shared_ptr<Model>> model = FindModelOf(update_id);
  if (!model.ok()) return model.status();
  return (*model)->FindUpdate(update_id);
}

absl::StatusOr<std::shared_ptr<Model>> ModelRegistry::FindModelOf(absl::string_view update_id) const {
  for (const std::shared_ptr<Model>& model : All()) {
    if (!absl::IsNotFound(model->FindUpdate(update_id).status())) return model;
  }
  return absl::NotFoundError(absl::StrCat("there is no update '", Printable(update_id),
                                          "'; it may have ended, or the server was restarted: begin it again"));
}

uint64_t ModelRegistry::PromisedBytes() const {
  uint64_t promised = 0;
  for (const std::shared_ptr<Model>& model : All()) {
    if (const std::shared_ptr<Update> update = model->update_in_flight(); update != nullptr) {
      const Target& target = std::as_const(*update).target();
      promised += target.bytes() - std::min(target.bytes(), target.prepared_bytes());
    }
  }
  return promised;
}

void ModelRegistry::Review() {
  const absl::Duration limit = MonotonicNow() - limits_.idle_update;
  for (const std::shared_ptr<Model>& model : All()) {
    model->SamplePace();
    const std::shared_ptr<Update> update = model->update_in_flight();
    if (update == nullptr || update->state() != UpdateState::kReceiving || update->last_activity() > limit) continue;
    const absl::Status aborted = model->Abort(
        update->identity().id,
        absl::StrCat("no chunk for ", absl::FormatDuration(limits_.idle_update), " (--idle-update-seconds)"));
    if (!aborted.ok()) LogCannotAbort(*update, aborted);
  }
}

bool ModelRegistry::Drain(absl::Duration patience) {
  const absl::Duration deadline = MonotonicNow() + patience;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  for (const std::shared_ptr<Model>& model : All()) {
    while (model->update_in_flight() != nullptr) {
      if (MonotonicNow() >= deadline) return false;
      model->AwaitChange(model->Snapshot().change, kDrainPoll);
    }
  }
  return true;
}

bool ModelRegistry::draining() const {
  absl::MutexLock lock(&mutex_);
  return draining_;
}

void ModelRegistry::AbortAll(absl::string_view reason) {
  for (const std::shared_ptr<Model>& model : All()) {
    const std::shared_ptr<Update> update = model->update_in_flight();
    if (update == nullptr) continue;
    const absl::Status aborted = model->Abort(update->identity().id, reason);
    if (!aborted.ok()) LogCannotAbort(*update, aborted);
  }
}

}  // namespace weightstream
