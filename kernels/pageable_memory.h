// What the host backends give for pinned memory: ordinary memory, aligned as if it were pinned.
#ifndef WEIGHTSTREAM_KERNELS_PAGEABLE_MEMORY_H_
#define WEIGHTSTREAM_KERNELS_PAGEABLE_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace weightstream {

// Zeroed memory that starts on a page (4096), present from the start: a lack of it shows here, as RESOURCE_EXHAUSTED,
// not at some later store. Any thread.
absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePageableMemory(uint64_t bytes);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_PAGEABLE_MEMORY_H_
