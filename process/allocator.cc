#include "process/allocator.h"

#include <malloc.h>

namespace weightstream {

void TuneAllocatorForStreaming() {
#if defined(__GLIBC__)
  // All three belong together: the first keeps message-sized blocks out of mmap, the second keeps the heap's top from
  // being returned, the third grows it in steps. The first without the second was measured to be worse than neither.
  constexpr int kMmapThresholdBytes = 64 << 20;
  constexpr int kTrimThresholdBytes = 512 << 20;
  constexpr int kTopPadBytes = 64 << 20;
  mallopt(M_MMAP_THRESHOLD, kMmapThresholdBytes);
  mallopt(M_TRIM_THRESHOLD, kTrimThresholdBytes);
  mallopt(M_TOP_PAD, kTopPadBytes);
  // gRPC allocates on one thread and frees on another, so each of glibc's arenas would grow to the size of all messages
  // in flight: 290 MiB retained after a few pushes of 1 GiB over two connections, 60 to 100 with one arena, at the same
  // rate.
  mallopt(M_ARENA_MAX, 1);
#endif
}

}  // namespace weightstream
