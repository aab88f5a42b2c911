// Copies with non-temporal stores: for destinations that are larger than the caches and that nobody reads soon.
#ifndef WEIGHTSTREAM_KERNELS_NON_TEMPORAL_COPY_H_
#define WEIGHTSTREAM_KERNELS_NON_TEMPORAL_COPY_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weightstream {

// A cache line. Copies that begin and end where one does have no part that is stored in the ordinary way.
inline constexpr size_t kCacheLineBytes = 64;

// From where the line of `place` begins to there, and from there to where a line begins: 0 if there is one.
inline size_t PastLine(const char* place) { return reinterpret_cast<uintptr_t>(place) % kCacheLineBytes; }
inline size_t BytesToLine(const char* place) { return (kCacheLineBytes - PastLine(place)) % kCacheLineBytes; }

// memcpy, but whole cache lines of the destination go straight to memory: an ordinary store to a line that is not in
// the cache reads it first, and pushes out of the cache what is still wanted. The regions must not overlap. Other
// threads may read what was written only after NonTemporalFence(), called by the thread that copied. Pure, any thread.
//
// Where the processor has no AVX2, and under a sanitizer, which would not see these stores, it is memcpy.
void NonTemporalCopy(char* destination, absl::string_view bytes);

// Orders this thread's copies before its later stores, as those that tell another thread of them. It waits for the
// copies to reach memory, so it is not for every block.
void NonTemporalFence();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_NON_TEMPORAL_COPY_H_
