// CRC32C (Castagnoli polynomial, as in iSCSI, RFC 3720), alone and fused with a copy.
//
// The work is done by AVX-512 and VPCLMULQDQ (folded_checksum.h) or, where the processor has not both, by Intel's
// ISA-L, which picks the fastest of its forms. All is found at run time. Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_CHECKSUM_H_
#define WEIGHTSTREAM_KERNELS_CHECKSUM_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace weightstream {

// The checksum of what `crc` covers followed by `bytes`; start with 0. Crc32c(0, "123456789") is 0xE3069283.
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes);

// Where what is copied will be wanted next: soon, from the cache, or not before it has left it (non_temporal_copy.h).
enum class Stores { kCached, kNonTemporal };

// The same, and copies `bytes` to `destination`, reading the source from memory once: in one pass, or block by block,
// each summed while it comes into the cache, then copied from there. The regions must not overlap. However it stores,
// what another thread is told of afterwards, by a release store or under a lock, it finds copied.
uint32_t CopyAndExtendCrc32c(uint32_t crc, char* destination, absl::string_view bytes, Stores stores);

// The checksum of the concatenation of two byte strings, from their own checksums and the second one's length.
uint32_t ConcatCrc32c(uint32_t first_crc, uint32_t second_crc, uint64_t second_bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CHECKSUM_H_
