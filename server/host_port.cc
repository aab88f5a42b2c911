#include "server/host_port.h"

#include "absl/strings/numbers.h"

namespace weightstream {

absl::optional<HostPort> ParseHostPort(absl::string_view address) {
  const size_t colon = address.rfind(':');
  HostPort parsed;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &parsed.port) ||
      parsed.port > 65535) {
    return absl::nullopt;
  }
  absl::string_view host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  parsed.host = std::string(host);
  return parsed;
}

}  // namespace weightstream
