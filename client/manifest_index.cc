#include "client/manifest_index.h"

namespace weightstream {

ManifestIndex::ManifestIndex(const std::vector<TensorSpec>& tensors) : tensors_(tensors) {
  bytes_.reserve(tensors.size());
  by_name_.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    bytes_.push_back(TensorByteSize(tensors[i]).value_or(0));
    by_name_.emplace(tensors[i].name, static_cast<uint32_t>(i));
  }
}

absl::optional<uint32_t> ManifestIndex::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return absl::nullopt;
  return found->second;
}

}  // namespace weightstream
