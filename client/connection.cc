#include "client/connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/address.h"

namespace weightstream {
absl::Status ValidateTimeLimits(const TimeLimits& limits) {
  const std::pair<absl::string_view, absl::Duration> positive[] = {
      {"connect", limits.connect},
      {"call", limits.call},
      {"stall", limits.stall},
      {"keepalive_time", limits.keepalive_time},
      {"keepalive_timeout", limits.keepalive_timeout},
  };
  for (const auto& [name, value] : positive) {
    if (value <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat("time limit \"", name, "\" is ", absl::FormatDuration(value), "; give a positive duration"));
    }
  }
  if (limits.per_gib < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("time limit \"per_gib\" is ", absl::FormatDuration(limits.per_gib), "; give zero or more"));
  }
  return absl::OkStatus();
}

absl::Status ValidateAddress(absl::string_view address) { return ParseAddress(address).status(); }

}  // namespace weightstream
