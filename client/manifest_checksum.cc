#include "client/manifest_checksum.h"

#include <string>
#include <utility>
#include <vector>

#include "kernels/checksum.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

absl::optional<uint32_t> ManifestChecksum::Get(const ManifestIndex& index) const {
  absl::call_once(once_, [&] {
    // In order already, so that they are not sorted once more.
    std::vector<TensorSpec> tensors;
    tensors.reserve(index.tensors().size());
    for (const uint32_t tensor : index.layout_order()) tensors.push_back(index.tensors()[tensor]);
    std::string header;
    if (LayOutSafetensors(std::move(tensors), metadata_, &header).ok()) crc32c_ = ExtendCrc32c(0, header);
  });
  return crc32c_;
}

}  // namespace weightstream
