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

void UpdatePace::Restart(absl::Duration now, uint64_t landed_bytes) {
  if (rate_.has_value()) rate_.emplace(limits_.silent_call, now, landed_before_ + landed_bytes);
}

void UpdatePace::Ended(absl::Duration now, uint64_t landed_bytes, bool committed) {
  landed_before_ += landed_bytes;
  ended_ = now;
  if (committed) rate_.reset();
}

absl::optional<std::string> UpdatePace::WhyTooSlow(absl::Duration now, uint64_t missing_bytes) const {
  if (!rate_.has_value()) return absl::nullopt;
  if (now - began_ > limits_.update_time) {
    return absl::StrCat("under way for longer than ", absl::FormatDuration(limits_.update_time), " (--update-seconds)");
  }
  const absl::optional<double> rate = missing_bytes > 0 ? rate_->BytesPerSecond() : absl::nullopt;
  if (!rate.has_value() || *rate >= static_cast<double>(limits_.least_bytes_per_second)) return absl::nullopt;
  return absl::StrCat(static_cast<uint64_t>(*rate), " bytes a second lately, where ", limits_.least_bytes_per_second,
                      " are the least (--least-kib-per-second)");
}

}  // namespace weightstream
