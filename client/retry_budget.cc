#include "client/retry_budget.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/defaults.h"
#include "client/failure_rules.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

RetryBudget::RetryBudget(int max_attempts, absl::Duration outage_limit)
    : max_attempts_(max_attempts), outage_limit_(outage_limit) {}

void RetryBudget::Answered() {
  unanswered_ = 0;
  outage_began_ = -absl::InfiniteDuration();
}

void RetryBudget::Progressed() {
  Answered();
  fruitless_ = 0;
}

void RetryBudget::LastAlive(absl::Duration at) {
  if (outage_began_ == -absl::InfiniteDuration()) outage_began_ = at;
}

absl::Duration RetryBudget::OutageLeft() const {
  if (outage_began_ == -absl::InfiniteDuration()) return outage_limit_;
  return std::max(absl::ZeroDuration(), outage_limit_ - (MonotonicNow() - outage_began_));
}

absl::Status RetryBudget::Unreachable(const absl::Status& cause) const {
  return Annotate(cause, absl::StrCat("no answer for ", absl::FormatDuration(outage_limit_)));
}

absl::StatusOr<absl::Duration> RetryBudget::NoAnswer(absl::Duration began, const absl::Status& cause) {
  LastAlive(began);
  const absl::Duration left = OutageLeft();
  if (left <= absl::ZeroDuration()) return Unreachable(cause);
  ++unanswered_;
  return std::min(Backoff(), left);
}

absl::StatusOr<absl::Duration> RetryBudget::Fruitless(const absl::Status& cause) {
  if (++fruitless_ >= max_attempts_) {
    return Annotate(cause, absl::StrCat("gave up after ", fruitless_, " attempts without a new byte landed"));
  }
  return Backoff();
}

absl::Duration RetryBudget::ShortWait() { return kFirstBackoff * absl::Uniform(random_, 0.5, 1.0); }

absl::Duration RetryBudget::Backoff() {
  const int doublings = std::clamp(fruitless_ + unanswered_ - 1, 0, 20);
  const absl::Duration full = std::min(kMostBackoff, kFirstBackoff * (int64_t{1} << doublings));
  return full * absl::Uniform(random_, 0.5, 1.0);
}

}  // namespace weightstream
