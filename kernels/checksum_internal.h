// The forms of checksum.h that this processor may not choose, open to tests, and to the benchmark that chose a block's
// size. Not for use outside this room.
#ifndef WEIGHTSTREAM_KERNELS_CHECKSUM_INTERNAL_H_
#define WEIGHTSTREAM_KERNELS_CHECKSUM_INTERNAL_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "kernels/checksum.h"

namespace weightstream::internal {

// GB/s with checksum_benchmark, 2 MiB chunks of 512 MiB, aligned and misaligned source, cached stores (AMD EPYC with
// AVX-512 in a virtual machine): 1 KiB 5.3/10.3, 2 KiB 5.9/11.1, 4 KiB 12.8/8.0, 8 KiB 11.8/7.5, 16 KiB 9.3/7.5,
// 64 KiB 9.3/6.5. 4 KiB has the best worse case of the two. For comparison, aligned: memcpy alone 8.4, the checksum
// alone 23.5, one after the other 7.6. Medians of 5; why the steps lie where they do was not looked into. With
// non-temporal stores pushes were as fast with 4 KiB as with any larger block, and a little slower with 2 KiB.
inline constexpr size_t kCopyBlockBytes = 4 << 10;

// ExtendCrc32c as it is on processors that cannot fold.
uint32_t ExtendCrc32cByBlocks(uint32_t crc, absl::string_view bytes);

// CopyAndExtendCrc32c block by block, as on processors that cannot fold, with the block size given. Requires
// block_bytes > kCacheLineBytes.
uint32_t CopyAndExtendCrc32cByBlocks(uint32_t crc, char* destination, absl::string_view bytes, Stores stores,
                                     size_t block_bytes);

}  // namespace weightstream::internal

#endif  // WEIGHTSTREAM_KERNELS_CHECKSUM_INTERNAL_H_
