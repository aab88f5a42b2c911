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
    --counter->outstanding_;
  };
}

bool BorrowCounter::WaitUntilReturned(absl::Duration limit) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &BorrowCounter::NoneOutstanding), limit);
}

uint64_t BorrowCounter::outstanding() const {
  absl::MutexLock lock(&mutex_);
  return outstanding_;
}

}  // namespace weightstream
