// How often and for how long a server is tried again.
#ifndef WEIGHTSTREAM_CLIENT_RETRY_BUDGET_H_
#define WEIGHTSTREAM_CLIENT_RETRY_BUDGET_H_

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weightstream {

// Two things use the budget up. An outage: the server does not answer; it may last `outage_limit`, counted from the
// last sign of life. And fruitless attempts: it answers, but no new byte lands; there may be `max_attempts` in a row.
// Waits between attempts double from 100 ms to 5 s, each shortened by a random part of up to a half, so that many
// clients of one server do not come back in step. Not thread-safe. Times are MonotonicNow().
class RetryBudget {
 public:
  RetryBudget(int max_attempts, absl::Duration outage_limit);

  // The server answered: an outage is over.
  void Answered();
  // New bytes landed: everything starts from the beginning.
  void Progressed();

  // A call that began at `began` got no answer. The wait before the next, or, where the limit has passed,
  // `cause` with the limit named.
  absl::StatusOr<absl::Duration> NoAnswer(absl::Duration began, const absl::Status& cause);
  // An attempt brought nothing new. The same.
  absl::StatusOr<absl::Duration> Fruitless(const absl::Status& cause);

  // The last sign of life, if it was before what is known: an outage began then.
  void LastAlive(absl::Duration at);

  // What the current outage may still last; the whole limit where there is none.
  absl::Duration OutageLeft() const;
  // `cause` with the limit named.
  absl::Status Unreachable(const absl::Status& cause) const;

  // For an attempt that is not known to be fruitless.
  absl::Duration ShortWait();

 private:
  absl::Duration Backoff();

  const int max_attempts_;
  const absl::Duration outage_limit_;
  int fruitless_ = 0;
  int unanswered_ = 0;
  // Infinite past: none known.
  absl::Duration outage_began_ = -absl::InfiniteDuration();
  absl::BitGen random_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_RETRY_BUDGET_H_
