#include "client/borrow_counter.h"

#include <utility>

namespace weightstream {

std::function<void()> BorrowCounter::Borrow(std::shared_ptr<BorrowCounter> counter) {
  {
    absl::MutexLock lock(&counter->mutex_);
    ++counter->outstanding_;
  }
  return [counter = std::move(counter)] {
    absl::MutexLock lock(&counter->mutex_);
    if (--counter->outstanding_ == 0) counter->returned_.SignalAll();
  };
}

bool BorrowCounter::WaitUntilReturned(absl::Duration limit) {
  absl::MutexLock lock(&mutex_);
  return returned_.AwaitFor(mutex_, limit,
                            [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return NoneOutstanding(); });
}

uint64_t BorrowCounter::outstanding() const {
  absl::MutexLock lock(&mutex_);
  return outstanding_;
}

}  // namespace weightstream
