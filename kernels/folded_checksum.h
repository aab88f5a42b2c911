// CRC32C by carry-less multiplications of AVX-512's registers (VPCLMULQDQ), alone and in one pass with a copy past the
// caches. Pure, any thread.
//
// Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009), with
// registers of 512 bits. ISA-L has the same for a checksum alone, and it is as fast from the cache. What it has not: a
// pass that copies as well, whose loads and multiplications cost next to nothing beside the stores; and a hint of what
// memory is read next, which the processor's own prefetching, that stops at the end of each page, comes to too late.
#ifndef WEIGHTSTREAM_KERNELS_FOLDED_CHECKSUM_H_
#define WEIGHTSTREAM_KERNELS_FOLDED_CHECKSUM_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weightstream {

// Extends `shift_register`, the bare form of a checksum, by the first bytes of `bytes`, and says how many those were:
// all but the last 255 at most, or none on a processor without AVX-512 and VPCLMULQDQ.
size_t FoldChecksum(uint32_t& shift_register, absl::string_view bytes);

// The same, and copies those bytes to `destination`, which must begin where a cache line does, as NonTemporalCopy
// (non_temporal_copy.h) would: NonTemporalFence() has to follow, the regions must not overlap, and none are copied
// under a sanitizer, which would not see it.
size_t FoldChecksumAndCopy(uint32_t& shift_register, char* destination, absl::string_view bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_FOLDED_CHECKSUM_H_
