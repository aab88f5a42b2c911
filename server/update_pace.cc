#include "server/update_pace.h"

#include "absl/strings/str_cat.h"

namespace weightstream {

void UpdatePace::Began(absl::Duration now) {
  if (rate_.has_value() && now - ended_ <= limits_.silent_call) return;
  rate_.emplace(limits_.silent_call, now);
  began_ = now;
  landed_before_ = 0;
}

void UpdatePace::Sample(absl::Duration now, uint64_t landed_bytes) {
  if (rate_.has_value()) rate_->Sample(now, landed_before_ + landed_bytes);
}

void UpdatePace::Ended(absl::Duration now, uint64_t landed_bytes, bool committed) {
  landed_before_ += landed_bytes;
  ended_ = now;
  if (committed) rate_.reset();
}

absl::optional<std::string> UpdatePace::WhyTooSlow(absl::Duration now, uint64_t missing_bytes) const {
  const absl::optional<double> rate = rate_.has_value() ? rate_->BytesPerSecond() : absl::nullopt;
  if (!rate.has_value()) return absl::nullopt;
  const std::string pace = absl::StrCat(static_cast<uint64_t>(*rate), " bytes a second lately");
  if (*rate < static_cast<double>(limits_.least_bytes_per_second)) {
    return absl::StrCat(pace, ", where ", limits_.least_bytes_per_second, " are the least (--least-kib-per-second)");
  }
  const absl::Duration needed = now - began_ + absl::Seconds(static_cast<double>(missing_bytes) / *rate);
  if (needed <= limits_.update_time) return absl::nullopt;
  return absl::StrCat(pace, ", with which it takes longer than ", absl::FormatDuration(limits_.update_time),
                      " in all (--update-seconds)");
}

}  // namespace weightstream
