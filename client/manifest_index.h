// Finds a source's tensors by name.
#ifndef WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_
#define WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_

#include <cstdint>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "tensor/spec.h"

namespace weightstream {

// Refers to the specs, which must outlive it and stay as they are. Immutable, any thread.
class ManifestIndex {
 public:
  // Requires a valid manifest.
  explicit ManifestIndex(const std::vector<TensorSpec>& tensors);
  ManifestIndex(const ManifestIndex&) = delete;
  ManifestIndex& operator=(const ManifestIndex&) = delete;

  absl::optional<uint32_t> Find(absl::string_view name) const;
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  // Of tensor number `index`.
  uint64_t bytes(uint32_t index) const { return bytes_[index]; }
  // The order in which a server lays them out.
  const std::vector<uint32_t>& layout_order() const;

 private:
  const std::vector<TensorSpec>& tensors_;
  std::vector<uint64_t> bytes_;
  // Made at the first call that needs them: a push that resumes nothing does not look for names, and to read does not
  // need the order.
  mutable absl::once_flag by_name_once_;
  mutable absl::flat_hash_map<absl::string_view, uint32_t> by_name_;
  mutable absl::once_flag layout_order_once_;
  mutable std::vector<uint32_t> layout_order_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_
