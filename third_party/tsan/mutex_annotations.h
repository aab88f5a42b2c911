// The shapes that every annotated operation on an absl::Mutex has: taking it, letting it go, and giving it up to wait.
//
// ThreadSanitizer's own annotations for mutexes are not used: they count as accesses to the mutex's memory, and gRPC
// hands its mutexes from thread to thread by means that are not instrumented, so each hand-over looked like a race.
// Plain acquire and release only order.
//
// Thread-safety: as absl::Mutex.
#ifndef WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_
#define WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_

#include <absl/synchronization/mutex.h>

#include <atomic>
#include <cstdint>

#include "third_party/tsan/annotated_call.h"

// Exported by ThreadSanitizer's library, declared in no header: until the end, this thread's accesses are not recorded.
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);

namespace weightstream::tsan {

enum class LockMode { kWriter, kReader };

// Readers are ordered after writers, and writers after both, but not readers after each other: two clocks, each at an
// address of its own within the mutex.
inline void* WriterClock(absl::Mutex* mutex) { return mutex; }
inline void* ReaderClock(absl::Mutex* mutex) { return reinterpret_cast<char*>(mutex) + sizeof(absl::Mutex) / 2; }

inline void AfterLock(absl::Mutex* mutex, LockMode mode) {
  __tsan_acquire(WriterClock(mutex));
  if (mode == LockMode::kWriter) __tsan_acquire(ReaderClock(mutex));
}

inline void BeforeUnlock(absl::Mutex* mutex, LockMode mode) {
  __tsan_release(mode == LockMode::kWriter ? WriterClock(mutex) : ReaderClock(mutex));
}

// Inside an operation of the library on a mutex. The conditions that other waiters wait for are evaluated there, on
// whichever thread holds the lock, after it has released and before it has acquired: those reads must not count.
class InsideMutex {
 public:
  InsideMutex() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~InsideMutex() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
  InsideMutex(const InsideMutex&) = delete;
  InsideMutex& operator=(const InsideMutex&) = delete;

 private:
  InsideLibrary inside_library_;
};

// Calls `take`, which returns with `mutex` held.
template <typename Take>
auto AnnotateLock(absl::Mutex* mutex, LockMode mode, Take take) {
  if (InsideLibrary::Nested()) return take();
  struct AfterTake {
    absl::Mutex* mutex;
    LockMode mode;
    ~AfterTake() { AfterLock(mutex, mode); }
  } after_take{mutex, mode};
  InsideMutex inside;
  return take();
}

// Whether `mutex`, which the caller holds, is held for writing. Abseil has no public question for it; the bit has been
// the writer's in every release, and AwaitUnderAReaderLockSeesTheWrite fails if it moves.
inline LockMode ModeHeld(const absl::Mutex* mutex) {
  constexpr std::intptr_t kWriterBit = 0x8;
  static_assert(sizeof(absl::Mutex) == sizeof(std::atomic<std::intptr_t>));
  const auto* state = reinterpret_cast<const std::atomic<std::intptr_t>*>(mutex);
  return (state->load(std::memory_order_relaxed) & kWriterBit) != 0 ? LockMode::kWriter : LockMode::kReader;
}

// Calls `wait`, which gives `mutex` up while it waits and returns with it held as before.
template <typename Wait>
auto AnnotateWait(absl::Mutex* mutex, Wait wait) {
  if (InsideLibrary::Nested()) return wait();
  const LockMode mode = ModeHeld(mutex);
  BeforeUnlock(mutex, mode);
  return AnnotateLock(mutex, mode, wait);
}

}  // namespace weightstream::tsan

#endif  // WEIGHTSTREAM_THIRD_PARTY_TSAN_MUTEX_ANNOTATIONS_H_
