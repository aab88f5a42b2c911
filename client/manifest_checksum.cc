#include "client/manifest_checksum.h"

#include <string>

#include "kernels/checksum.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

absl::optional<uint32_t> ManifestChecksum::Get(const ManifestIndex& index) const {
  absl::call_once(once_, [&] {
    const absl::StatusOr<std::string> header =
        SafetensorsHeaderInOrder(index.tensors(), index.layout_order(), metadata_);
    if (header.ok()) crc32c_ = ExtendCrc32c(0, *header);
  });
  return crc32c_;
}

}  // namespace weightstream
