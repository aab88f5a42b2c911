// Tells ThreadSanitizer what absl::Mutex orders.
#include "third_party/tsan/mutex_annotations.h"

#include <absl/base/config.h>
#include <absl/time/time.h>

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

using ::weightstream::tsan::AnnotateLock;
using ::weightstream::tsan::AnnotateWait;
using ::weightstream::tsan::InsideLibrary;
using ::weightstream::tsan::NextFunction;

constexpr unsigned kWriter = 0;

void AnnotatedUnlock(Mutex* mutex, unsigned mode, NextFunction<void(Mutex*)>& next) {
  if (InsideLibrary::Nested()) return next(mutex);
  __tsan_mutex_pre_unlock(mutex, mode);
  {
    InsideLibrary inside;
    next(mutex);
  }
  __tsan_mutex_post_unlock(mutex, mode);
}

bool AnnotatedTryLock(Mutex* mutex, unsigned mode, NextFunction<bool(Mutex*)>& next) {
  if (InsideLibrary::Nested()) return next(mutex);
  __tsan_mutex_pre_lock(mutex, mode);
  bool taken = false;
  {
    InsideLibrary inside;
    taken = next(mutex);
  }
  __tsan_mutex_post_lock(mutex, taken ? mode : mode | __tsan_mutex_try_lock_failed, 0);
  return taken;
}

}  // namespace

Mutex::~Mutex() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35MutexD1Ev");
  // Before the library's: afterwards the memory may already be another object's.
  if (!InsideLibrary::Nested()) __tsan_mutex_destroy(this, 0);
  next(this);
}

void Mutex::Lock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex4LockEv");
  AnnotateLock(this, kWriter, [this] { next(this); });
}

void Mutex::Unlock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex6UnlockEv");
  AnnotatedUnlock(this, kWriter, next);
}

bool Mutex::TryLock() {
  static NextFunction<bool(Mutex*)> next("_ZN4absl7debian35Mutex7TryLockEv");
  return AnnotatedTryLock(this, __tsan_mutex_try_lock, next);
}

void Mutex::ReaderLock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex10ReaderLockEv");
  AnnotateLock(this, __tsan_mutex_read_lock, [this] { next(this); });
}

void Mutex::ReaderUnlock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex12ReaderUnlockEv");
  AnnotatedUnlock(this, __tsan_mutex_read_lock, next);
}

bool Mutex::ReaderTryLock() {
  static NextFunction<bool(Mutex*)> next("_ZN4absl7debian35Mutex13ReaderTryLockEv");
  return AnnotatedTryLock(this, __tsan_mutex_try_read_lock, next);
}

void Mutex::LockWhen(const Condition& cond) {
  static NextFunction<void(Mutex*, const Condition&)> next("_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
  AnnotateLock(this, kWriter, [&] { next(this, cond); });
}

bool Mutex::LockWhenWithTimeout(const Condition& cond, Duration timeout) {
  static NextFunction<bool(Mutex*, const Condition&, Duration)> next(
      "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return AnnotateLock(this, kWriter, [&] { return next(this, cond, timeout); });
}

bool Mutex::LockWhenWithDeadline(const Condition& cond, Time deadline) {
  static NextFunction<bool(Mutex*, const Condition&, Time)> next(
      "_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return AnnotateLock(this, kWriter, [&] { return next(this, cond, deadline); });
}

void Mutex::ReaderLockWhen(const Condition& cond) {
  static NextFunction<void(Mutex*, const Condition&)> next("_ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE");
  AnnotateLock(this, __tsan_mutex_read_lock, [&] { next(this, cond); });
}

bool Mutex::ReaderLockWhenWithTimeout(const Condition& cond, Duration timeout) {
  static NextFunction<bool(Mutex*, const Condition&, Duration)> next(
      "_ZN4absl7debian35Mutex25ReaderLockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return AnnotateLock(this, __tsan_mutex_read_lock, [&] { return next(this, cond, timeout); });
}

bool Mutex::ReaderLockWhenWithDeadline(const Condition& cond, Time deadline) {
  static NextFunction<bool(Mutex*, const Condition&, Time)> next(
      "_ZN4absl7debian35Mutex26ReaderLockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return AnnotateLock(this, __tsan_mutex_read_lock, [&] { return next(this, cond, deadline); });
}

void Mutex::Await(const Condition& cond) {
  static NextFunction<void(Mutex*, const Condition&)> next("_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
  AnnotateWait(this, [&] { next(this, cond); });
}

bool Mutex::AwaitWithTimeout(const Condition& cond, Duration timeout) {
  static NextFunction<bool(Mutex*, const Condition&, Duration)> next(
      "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return AnnotateWait(this, [&] { return next(this, cond, timeout); });
}

bool Mutex::AwaitWithDeadline(const Condition& cond, Time deadline) {
  static NextFunction<bool(Mutex*, const Condition&, Time)> next(
      "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return AnnotateWait(this, [&] { return next(this, cond, deadline); });
}

ABSL_NAMESPACE_END
}  // namespace absl
