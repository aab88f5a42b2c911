// All models of one server, by name; and the updates in flight, by id.
#ifndef WEIGHTSTREAM_SERVER_MODEL_REGISTRY_H_
#define WEIGHTSTREAM_SERVER_MODEL_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/known_manifests.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/model.h"
#include "server/version_medium.h"

namespace weightstream {

// Thread-safe. Lock order: ModelRegistry, KnownManifests or Model, Update, RangeTracker; none is held while files are
// written or a chunk is copied.
class ModelRegistry {
 public:
  // Who is told of what readers have: see ModelContext. Of versions that were recovered too.
  struct Observers {
    std::function<void(const std::string& model, uint64_t version, const std::string& update)> on_current = {};
    std::function<void(const std::string& model)> on_lost = {};
  };

  // `medium`, `limits` and `metrics` outlive this.
  ModelRegistry(VersionMedium& medium, const Limits& limits, Metrics& metrics, Observers observers);

  // Begins an update of a model, which is made known if it is not. UNAVAILABLE while draining.
  absl::StatusOr<BegunUpdate> Begin(const std::string& model, BeginParams params) ABSL_LOCKS_EXCLUDED(mutex_);

  // The manifest with which an update of the model began last; null if it is not kept, as of models that are not known.
  std::shared_ptr<const KnownManifest> FindManifest(const std::string& model) const { return manifests_.Find(model); }

  // The model, which is made known if it is not. INVALID_ARGUMENT for a name that no model may have, RESOURCE_EXHAUSTED
  // for one too many, UNAVAILABLE while draining.
  absl::StatusOr<std::shared_ptr<Model>> FindOrAdd(const std::string& model) ABSL_LOCKS_EXCLUDED(mutex_);

  // NOT_FOUND if there is none.
  absl::StatusOr<std::shared_ptr<Model>> Find(const std::string& model) const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<std::shared_ptr<Model>> All() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until there is a model of this name, or the time is over.
  void AwaitNewModel(const std::string& model, absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mutex_);

  // The model whose update has this id, in flight or ended not long ago; NOT_FOUND if there is none.
  absl::StatusOr<std::shared_ptr<Model>> FindModelOf(absl::string_view update_id) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The update in flight of this id; NOT_FOUND, or what became of it.
  absl::StatusOr<std::shared_ptr<Update>> FindUpdate(absl::string_view update_id) const ABSL_LOCKS_EXCLUDED(mutex_);

  // To be called about once a second: looks how each update gets on, and aborts those that got no chunk for
  // limits.idle_update.
  void Review() ABSL_LOCKS_EXCLUDED(mutex_);

  // From now on no update begins. Those in flight may finish; returns true once none is left, false after `patience`.
  bool Drain(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  // True from the start of Drain.
  bool draining() const ABSL_LOCKS_EXCLUDED(mutex_);
  void AbortAll(absl::string_view reason) ABSL_LOCKS_EXCLUDED(mutex_);

  // What updates in flight, of all models, will still need of the medium.
  uint64_t PromisedBytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // An update in flight that gets nowhere.
  struct Stalled {
    std::shared_ptr<Model> model;
    std::shared_ptr<Update> update;
    // When it got its last chunk.
    absl::Duration last;
    // What is wrong with it, for whoever reads why it ended.
    std::string why;
  };
  // Those that got no chunk for limits.silent_call, the longest silent first, and then those that are too slow.
  std::vector<Stalled> AllStalled() const ABSL_LOCKS_EXCLUDED(mutex_);
  void EndStalled(const Stalled& stalled, absl::string_view for_whom);
  // As in ModelContext. Of the models that these wait for none waits for the one that begins, which has no update in
  // flight meanwhile.
  bool EndStalledForRoom(uint64_t lacking_bytes, absl::string_view subject) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndStalledForPlace() ABSL_LOCKS_EXCLUDED(mutex_);
  ModelContext Context();

  VersionMedium& medium_;
  const Limits& limits_;
  Metrics& metrics_;
  const Observers observers_;
  // Before the models, which hold some.
  UpdateSlots slots_;
  // Of models in models_ only.
  KnownManifests manifests_;

  mutable absl::Mutex mutex_;
  // Signalled when a model is added.
  mutable MonotonicCondVar added_;
  std::map<std::string, std::shared_ptr<Model>> models_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_REGISTRY_H_
