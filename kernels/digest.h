// The CRC32C of memory that only a GPU reaches, from the remainders of its segments: the processor's half. The kernel's
// half is digest_segment.h, which also says why it is made so. Pure, any thread.
#ifndef WEIGHTSTREAM_KERNELS_DIGEST_H_
#define WEIGHTSTREAM_KERNELS_DIGEST_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/digest_segment.h"

namespace weightstream {

// INTERNAL, for a mistake of the program above, unless it is a multiple of kDigestSegmentBytes, and not 0.
absl::Status CheckDigestBlock(uint64_t block_bytes);

// What the kernel computes of one segment: the remainder of its bits divided by CRC32C's generator, with nothing
// inverted. By way of the processor's own CRC32C.
uint32_t SegmentRemainder(absl::string_view segment);

// The same, step by step as the kernel does it, lane after lane: its twin in a test. Requires no more than
// kDigestSegmentBytes bytes. May read up to three bytes before the segment, down to a multiple of four, as the kernel
// does.
uint32_t SegmentRemainderByLanes(absl::string_view segment);

// The CRC32C of `bytes` bytes from the remainders of their segments. Requires DigestSegmentCount(bytes) of them.
uint32_t Crc32cFromRemainders(absl::Span<const uint32_t> remainders, uint64_t bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_DIGEST_H_
