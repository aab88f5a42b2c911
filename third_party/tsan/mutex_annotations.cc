// Tells ThreadSanitizer what absl::Mutex orders.
#include "third_party/tsan/mutex_annotations.h"

#include <absl/base/config.h>
#include <absl/time/time.h>

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

using ::weightstream::tsan::AfterLock;
using ::weightstream::tsan::AnnotateLock;
using ::weightstream::tsan::AnnotateWait;
using ::weightstream::tsan::BeforeUnlock;
using ::weightstream::tsan::InsideLibrary;
using ::weightstream::tsan::InsideMutex;
using ::weightstream::tsan::LockMode;
using ::weightstream::tsan::NextFunction;

void AnnotatedUnlock(Mutex* mutex, LockMode mode, NextFunction<void(Mutex*)>& next) {
  if (InsideLibrary::Nested()) return next(mutex);
  BeforeUnlock(mutex, mode);
  InsideMutex inside;
  next(mutex);
}

bool AnnotatedTryLock(Mutex* mutex, LockMode mode, NextFunction<bool(Mutex*)>& next) {
  if (InsideLibrary::Nested()) return next(mutex);
  bool taken = false;
  {
    InsideMutex inside;
    taken = next(mutex);
  }
  if (taken) AfterLock(mutex, mode);
  return taken;
}

}  // namespace

void Mutex::Lock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex4LockEv");
  AnnotateLock(this, LockMode::kWriter, [this] { next(this); });
}

void Mutex::Unlock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex6UnlockEv");
  AnnotatedUnlock(this, LockMode::kWriter, next);
}

bool Mutex::TryLock() {
  static NextFunction<bool(Mutex*)> next("_ZN4absl7debian35Mutex7TryLockEv");
  return AnnotatedTryLock(this, LockMode::kWriter, next);
}

void Mutex::ReaderLock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex10ReaderLockEv");
  AnnotateLock(this, LockMode::kReader, [this] { next(this); });
}

void Mutex::ReaderUnlock() {
  static NextFunction<void(Mutex*)> next("_ZN4absl7debian35Mutex12ReaderUnlockEv");
  AnnotatedUnlock(this, LockMode::kReader, next);
}

bool Mutex::ReaderTryLock() {
  static NextFunction<bool(Mutex*)> next("_ZN4absl7debian35Mutex13ReaderTryLockEv");
  return AnnotatedTryLock(this, LockMode::kReader, next);
}

void Mutex::LockWhen(const Condition& cond) {
  static NextFunction<void(Mutex*, const Condition&)> next("_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
  AnnotateLock(this, LockMode::kWriter, [&] { next(this, cond); });
}

bool Mutex::LockWhenWithTimeout(const Condition& cond, Duration timeout) {
  static NextFunction<bool(Mutex*, const Condition&, Duration)> next(
      "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return AnnotateLock(this, LockMode::kWriter, [&] { return next(this, cond, timeout); });
}

bool Mutex::LockWhenWithDeadline(const Condition& cond, Time deadline) {
  static NextFunction<bool(Mutex*, const Condition&, Time)> next(
      "_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return AnnotateLock(this, LockMode::kWriter, [&] { return next(this, cond, deadline); });
}

void Mutex::ReaderLockWhen(const Condition& cond) {
  static NextFunction<void(Mutex*, const Condition&)> next("_ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE");
  AnnotateLock(this, LockMode::kReader, [&] { next(this, cond); });
}

bool Mutex::ReaderLockWhenWithTimeout(const Condition& cond, Duration timeout) {
  static NextFunction<bool(Mutex*, const Condition&, Duration)> next(
      "_ZN4absl7debian35Mutex25ReaderLockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return AnnotateLock(this, LockMode::kReader, [&] { return next(this, cond, timeout); });
}

bool Mutex::ReaderLockWhenWithDeadline(const Condition& cond, Time deadline) {
  static NextFunction<bool(Mutex*, const Condition&, Time)> next(
      "_ZN4absl7debian35Mutex26ReaderLockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return AnnotateLock(this, LockMode::kReader, [&] { return next(this, cond, deadline); });
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
