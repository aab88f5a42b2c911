#include "client/manifest_checksum.h"

#include <string>

#include "kernels/checksum.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

absl::optional<uint32_t> ManifestChecksum::Get() const {
  absl::call_once(once_, [this] {
    std::string header;
    if (LayOutSafetensors(source_.tensors(), source_.metadata(), &header).ok()) crc32c_ = ExtendCrc32c(0, header);
  });
  return crc32c_;
}

}  // namespace weightstream
