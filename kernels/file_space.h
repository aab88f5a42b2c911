// Ranges of a file: giving them their blocks, so that no later write there can fail for want of room, and reading them.
#ifndef WEIGHTSTREAM_KERNELS_FILE_SPACE_H_
#define WEIGHTSTREAM_KERNELS_FILE_SPACE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "tensor/byte_range.h"

namespace weightstream {

// Allocates `bytes` bytes of the file from `offset` on and keeps what they hold. Returns 0 or an errno value. Passed in
// so that a test can fill any disk at any moment. Called from several threads at once.
using FallocateFunction = std::function<int(int fd, uint64_t offset, uint64_t bytes)>;

// fallocate(2).
int SystemFallocate(int fd, uint64_t offset, uint64_t bytes);

// Allocates `range` (in bytes of the file, within its size) and keeps the bytes that it holds. Where the file system
// cannot allocate without writing, reads and writes back what is there; the caller must keep other writers out of the
// range. RESOURCE_EXHAUSTED if there is no room. `path` is for messages. Idempotent, also after an error.
absl::Status AllocateFileRange(const FallocateFunction& fallocate, int fd, ByteRange range, const std::string& path);

// Reads `range` (in bytes of the file, within its size) to `destination`; holes read as zeros, and stay holes. `path`
// is for messages. DATA_LOSS if the file turns out to be shorter.
absl::Status ReadFileRange(int fd, ByteRange range, char* destination, const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_FILE_SPACE_H_
