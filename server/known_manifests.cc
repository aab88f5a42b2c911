#include "server/known_manifests.h"

#include <iterator>
#include <utility>

namespace weightstream {
namespace {

// What the allocator takes for each piece beyond its bytes, at most: a word, and up to a multiple of 16.
constexpr uint64_t kAllocationBytes = 16;
// Before the value in each node of a std::map.
constexpr uint64_t kMapNodeBytes = 32;
// The entry, its place in the index, the three objects that it points to, and what counts who points to them.
constexpr uint64_t kEntryBytes = 512;

// Beyond the string itself.
uint64_t HeapBytes(const std::string& text) {
  return text.capacity() <= std::string().capacity() ? 0 : text.capacity() + 1 + kAllocationBytes;
}

uint64_t HeapBytes(const Shape& shape) {
  return shape.capacity() <= Shape().capacity() ? 0 : shape.capacity() * sizeof(Shape::value_type) + kAllocationBytes;
}

}  // namespace

uint64_t BytesToKeep(absl::string_view model, const KnownManifest& manifest) {
  const SafetensorsLayout& layout = *manifest.layout;
  uint64_t bytes = kEntryBytes + model.size() + HeapBytes(*manifest.wire);
  bytes += layout.tensors.capacity() * sizeof(PlacedTensor);
  for (const PlacedTensor& tensor : layout.tensors) bytes += HeapBytes(tensor.spec.name) + HeapBytes(tensor.spec.shape);
  for (const auto& entry : layout.metadata) {
    bytes += kMapNodeBytes + sizeof(entry) + kAllocationBytes + HeapBytes(entry.first) + HeapBytes(entry.second);
  }
  return bytes;
}

void KnownManifests::Take(Entries::iterator entry, Entries& taken) {
  bytes_ -= entry->bytes;
  by_model_.erase(entry->model);
  taken.splice(taken.end(), entries_, entry);
}

std::shared_ptr<const KnownManifest> KnownManifests::Find(absl::string_view model) const {
  absl::MutexLock lock(&mutex_);
  const auto found = by_model_.find(model);
  return found == by_model_.end() ? nullptr : found->second->manifest;
}

void KnownManifests::Used(absl::string_view model) {
  absl::MutexLock lock(&mutex_);
  const auto found = by_model_.find(model);
  if (found != by_model_.end()) entries_.splice(entries_.begin(), entries_, found->second);
}

void KnownManifests::Keep(absl::string_view model, std::shared_ptr<const KnownManifest> manifest) {
  const uint64_t bytes = BytesToKeep(model, *manifest);
  Entries added;
  added.push_back({std::string(model), std::move(manifest), bytes});
  // Freed once the lock is let go: that takes milliseconds.
  Entries forgotten;
  absl::MutexLock lock(&mutex_);
  if (const auto before = by_model_.find(model); before != by_model_.end()) Take(before->second, forgotten);
  if (bytes > most_bytes_) return;
  while (bytes_ + bytes > most_bytes_) Take(std::prev(entries_.end()), forgotten);
  entries_.splice(entries_.begin(), added);
  by_model_.emplace(entries_.front().model, entries_.begin());
  bytes_ += bytes;
}

std::shared_ptr<const KnownManifest> KnownManifests::Forget(absl::string_view model) {
  Entries forgotten;
  absl::MutexLock lock(&mutex_);
  const auto found = by_model_.find(model);
  if (found == by_model_.end()) return nullptr;
  Take(found->second, forgotten);
  return std::move(forgotten.front().manifest);
}

}  // namespace weightstream
