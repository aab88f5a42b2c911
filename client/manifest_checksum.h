// The CRC32C of the safetensors header that servers give a source's version: by it a commit says which manifest it
// means.
#ifndef WEIGHTSTREAM_CLIENT_MANIFEST_CHECKSUM_H_
#define WEIGHTSTREAM_CLIENT_MANIFEST_CHECKSUM_H_

#include <cstdint>

#include "absl/base/call_once.h"
#include "absl/types/optional.h"
#include "client/manifest_index.h"
#include "tensor/spec.h"

namespace weightstream {

// Refers to the metadata, which must outlive it. Any thread.
class ManifestChecksum {
 public:
  explicit ManifestChecksum(const Metadata& metadata) : metadata_(metadata) {}
  ManifestChecksum(const ManifestChecksum&) = delete;
  ManifestChecksum& operator=(const ManifestChecksum&) = delete;

  // As VersionInfo.manifest_crc32c of the wire. `index` is of the source's tensors, the same for each call. Nothing for
  // a source whose manifest no server takes. The first call computes it: some tens of milliseconds for 100,000 tensors.
  absl::optional<uint32_t> Get(const ManifestIndex& index) const;

 private:
  const Metadata& metadata_;
  mutable absl::once_flag once_;
  mutable absl::optional<uint32_t> crc32c_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_MANIFEST_CHECKSUM_H_
