#include "server/known_manifests.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace weightstream {

uint64_t KnownManifest::bytes() const {
  // The names once more, and the shapes of many dimensions: together no more than what came.
  return 2 * wire->size() + layout->tensors.size() * sizeof(PlacedTensor);
}

std::list<KnownManifests::Entry>::iterator KnownManifests::FindEntry(absl::string_view model) {
  return std::find_if(entries_.begin(), entries_.end(), [model](const Entry& entry) { return entry.model == model; });
}

void KnownManifests::Forget(std::list<Entry>::iterator entry, std::list<Entry>& forgotten) {
  bytes_ -= entry->manifest->bytes();
  forgotten.splice(forgotten.end(), entries_, entry);
}

std::shared_ptr<const KnownManifest> KnownManifests::Find(absl::string_view model) {
  absl::MutexLock lock(&mutex_);
  const auto found = FindEntry(model);
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return found->manifest;
}

void KnownManifests::Keep(absl::string_view model, std::shared_ptr<const KnownManifest> manifest) {
  // Freed once the lock is let go: that takes milliseconds.
  std::list<Entry> forgotten;
  absl::MutexLock lock(&mutex_);
  if (const auto before = FindEntry(model); before != entries_.end()) Forget(before, forgotten);
  const uint64_t bytes = manifest->bytes();
  if (bytes > most_bytes_) return;
  while (bytes_ + bytes > most_bytes_) Forget(std::prev(entries_.end()), forgotten);
  entries_.push_front({std::string(model), std::move(manifest)});
  bytes_ += bytes;
}

}  // namespace weightstream
