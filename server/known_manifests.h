// The manifests that updates began with last, so that one which comes again need not be parsed, checked and laid out
// again.
#ifndef WEIGHTSTREAM_SERVER_KNOWN_MANIFESTS_H_
#define WEIGHTSTREAM_SERVER_KNOWN_MANIFESTS_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// A trainer pushes the same tensors each time, and nothing but their bytes and the version changes. With 100,000
// tensors to find that out by comparing takes a twentieth of the time of reading them anew.
struct KnownManifest {
  // The manifest's part of the BeginUpdateRequest, as it came.
  std::shared_ptr<const std::string> wire;
  // What it was laid out as, with the metadata that came with it, and the CRC32C of the header.
  std::shared_ptr<const SafetensorsLayout> layout;
  uint32_t crc32c = 0;
};

// The memory that it takes to keep this for a model: the manifest as it came, and all that was made of it, what the
// allocator needs included. Looks at every tensor.
uint64_t BytesToKeep(absl::string_view model, const KnownManifest& manifest);

// One for each model, the last, as far as `most_bytes` for all of them go: those that were not used for longest are
// forgotten. Thread-safe.
class KnownManifests {
 public:
  explicit KnownManifests(uint64_t most_bytes) : most_bytes_(most_bytes) {}
  KnownManifests(const KnownManifests&) = delete;
  KnownManifests& operator=(const KnownManifests&) = delete;

  // Null if there is none. To look is not to use.
  std::shared_ptr<const KnownManifest> Find(absl::string_view model) const ABSL_LOCKS_EXCLUDED(mutex_);

  // An update began with that of the model, if there is one.
  void Used(absl::string_view model) ABSL_LOCKS_EXCLUDED(mutex_);

  // Replaces that of the model. One that is too large on its own is not kept.
  void Keep(absl::string_view model, std::shared_ptr<const KnownManifest> manifest) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a model that is known no more. Returns what there was, if anything, for the caller to free where it holds no
  // lock: that takes milliseconds.
  std::shared_ptr<const KnownManifest> Forget(absl::string_view model) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::string model;
    std::shared_ptr<const KnownManifest> manifest;
    // BytesToKeep.
    uint64_t bytes = 0;
  };
  using Entries = std::list<Entry>;

  // Moves it to `taken`.
  void Take(Entries::iterator entry, Entries& taken) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t most_bytes_;
  mutable absl::Mutex mutex_;
  // The one that was used last comes first.
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  // By the entry's own string.
  absl::flat_hash_map<absl::string_view, Entries::iterator> by_model_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_KNOWN_MANIFESTS_H_
