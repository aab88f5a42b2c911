// The two shapes that every annotated operation on an absl::Mutex has: taking it, and giving it up to wait.
// Thread-safety: as absl::Mutex.
#ifndef WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_
#define WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_

#include <absl/synchronization/mutex.h>

#include <atomic>
#include <cstdint>

#include "third_party/tsan/annotated_call.h"

namespace weightstream::tsan {

// Calls `take`, which returns with `mutex` held. Between the two annotations ThreadSanitizer ignores what this thread
// does: the conditions that other waiters wait for are evaluated there, on whichever thread holds the lock.
template <typename Take>
auto AnnotateLock(absl::Mutex* mutex, unsigned mode, Take take) {
  if (InsideLibrary::Nested()) return take();
  __tsan_mutex_pre_lock(mutex, mode);
  struct PostLock {
    absl::Mutex* mutex;
    unsigned mode;
    ~PostLock() { __tsan_mutex_post_lock(mutex, mode, 0); }
  } post_lock{mutex, mode};
  InsideLibrary inside;
  return take();
}

// Whether `mutex`, which the caller holds, is held for writing. Abseil has no public question for it; the bit has been
// the writer's in every release, and AwaitUnderAReaderLock in the test fails if it moves.
inline bool HeldForWriting(const absl::Mutex* mutex) {
  constexpr std::intptr_t kWriterBit = 0x8;
  static_assert(sizeof(absl::Mutex) == sizeof(std::atomic<std::intptr_t>));
  return (reinterpret_cast<const std::atomic<std::intptr_t>*>(mutex)->load(std::memory_order_relaxed) & kWriterBit) !=
         0;
}

// Calls `wait`, which gives `mutex` up while it waits and returns with it held as before.
template <typename Wait>
auto AnnotateWait(absl::Mutex* mutex, Wait wait) {
  if (InsideLibrary::Nested()) return wait();
  const unsigned mode = HeldForWriting(mutex) ? 0 : __tsan_mutex_read_lock;
  __tsan_mutex_pre_unlock(mutex, mode);
  __tsan_mutex_post_unlock(mutex, mode);
  return AnnotateLock(mutex, mode, wait);
}

}  // namespace weightstream::tsan

#endif  // WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_
