#include "client/connection.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

bool IsPort(absl::string_view text) {
  uint32_t port = 0;
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, &port) && port >= 1 && port <= 65535;
}

bool IsHostAndPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0 || !IsPort(text.substr(colon + 1))) return false;
  const absl::string_view host = text.substr(0, colon);
  if (host.front() == '[') return host.size() > 2 && host.back() == ']';
  // Two colons without brackets: an IPv6 address whose last group would be taken for a port.
  return host.find(':') == absl::string_view::npos;
}

bool IsAddress(absl::string_view address) {
  for (char c : address) {
    if (static_cast<unsigned char>(c) <= ' ' || c == ',' || c == 0x7f) return false;
  }
  if (absl::ConsumePrefix(&address, "unix:")) return !address.empty();
  if (absl::ConsumePrefix(&address, "dns:")) {
    // dns:HOST:PORT, dns:///HOST:PORT or dns://RESOLVER/HOST:PORT.
    if (absl::ConsumePrefix(&address, "//")) {
      const size_t slash = address.find('/');
      if (slash == absl::string_view::npos) return false;
      address.remove_prefix(slash + 1);
    }
  }
  return IsHostAndPort(address);
}

}  // namespace

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

absl::Status ValidateAddress(absl::string_view address) {
  if (IsAddress(address)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("address \"", Printable(address),
                                                 "\" is not one; give HOST:PORT, [IPV6]:PORT, unix:/PATH or "
                                                 "dns:///HOST:PORT"));
}

}  // namespace weightstream
