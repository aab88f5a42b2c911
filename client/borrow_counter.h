// Counts the loans of the source's bytes to gRPC.
#ifndef WEIGHTSTREAM_CLIENT_BORROW_COUNTER_H_
#define WEIGHTSTREAM_CLIENT_BORROW_COUNTER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

// A loan ends when gRPC destroys the slice that borrows the bytes, not when Write() returns, and on a thread of its own
// choice. Shared with each loan, so that one which gRPC ends after its borrower has given up waiting is still safe.
class BorrowCounter {
 public:
  // Begins a loan; the callback ends it, and must be called exactly once, from any thread.
  static std::function<void()> Borrow(std::shared_ptr<BorrowCounter> counter);

  // True once nothing is on loan; false after `limit`.
  bool WaitUntilReturned(absl::Duration limit) ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t outstanding() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool NoneOutstanding() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return outstanding_ == 0; }

  // One lock a chunk of megabytes is nothing; a bare atomic would have to guard against the waiter's leaving early.
  mutable absl::Mutex mutex_;
  MonotonicCondVar returned_;
  uint64_t outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_BORROW_COUNTER_H_
