#include "client/manifest_checksum.h"

#include "kernels/checksum.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

absl::optional<uint32_t> ManifestChecksum::Get() const {
  absl::call_once(once_, [this] {
    const absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(source_.tensors(), source_.metadata());
    if (layout.ok()) crc32c_ = ExtendCrc32c(0, EncodeSafetensorsHeader(*layout));
  });
  return crc32c_;
}

}  // namespace weightstream
