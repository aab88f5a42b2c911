// Finds a source's tensors by name.
#ifndef WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_
#define WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_

#include <cstdint>
#include <vector>

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

  absl::optional<uint32_t> Find(absl::string_view name) const;
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  // Of tensor number `index`.
  uint64_t bytes(uint32_t index) const { return bytes_[index]; }

 private:
  const std::vector<TensorSpec>& tensors_;
  std::vector<uint64_t> bytes_;
  absl::flat_hash_map<absl::string_view, uint32_t> by_name_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_MANIFEST_INDEX_H_
