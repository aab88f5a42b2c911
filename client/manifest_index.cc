#include "client/manifest_index.h"

#include "tensor/safetensors_layout.h"

namespace weightstream {

ManifestIndex::ManifestIndex(const std::vector<TensorSpec>& tensors) : tensors_(tensors) {
  bytes_.reserve(tensors.size());
  for (const TensorSpec& spec : tensors) bytes_.push_back(TensorByteSize(spec).value_or(0));
}

const std::vector<uint32_t>& ManifestIndex::layout_order() const {
  absl::call_once(layout_order_once_, [this] { layout_order_ = LayoutOrder(tensors_); });
  return layout_order_;
}

absl::optional<uint32_t> ManifestIndex::Find(absl::string_view name) const {
  absl::call_once(by_name_once_, [this] {
    by_name_.reserve(tensors_.size());
    for (const TensorSpec& spec : tensors_) by_name_.emplace(spec.name, static_cast<uint32_t>(by_name_.size()));
  });
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return absl::nullopt;
  return found->second;
}

}  // namespace weightstream
