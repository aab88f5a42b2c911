// How much memory this process may still fill: what bounds a file in shared memory, besides the size of its mount.
#ifndef WEIGHTSTREAM_SERVER_FREE_MEMORY_H_
#define WEIGHTSTREAM_SERVER_FREE_MEMORY_H_

#include <cstdint>
#include <string>

namespace weightstream {

// Bytes: the least of what the machine has available and what is left in the process's control group (version 2 as a
// container sees it, or 1), caches that the kernel can drop counted as free. The largest number where nothing is known.
// `proc` and `cgroup` are the folders of the two file systems, for tests. Over the limit of a control group the kernel
// kills the process instead of failing a call, so that asking beforehand is the only way to refuse.
uint64_t FreeMemoryBytes(const std::string& proc = "/proc", const std::string& cgroup = "/sys/fs/cgroup");

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_FREE_MEMORY_H_
