#include "client/address.h"

#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/loopback.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

bool ParsePort(absl::string_view text, uint16_t& port) {
  uint32_t number = 0;
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos;
  if (!digits || !absl::SimpleAtoi(text, &number) || number < 1 || number > std::numeric_limits<uint16_t>::max()) {
    return false;
  }
  port = static_cast<uint16_t>(number);
  return true;
}

bool ParseHostAndPort(absl::string_view text, Address& address) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || !ParsePort(text.substr(colon + 1), address.port)) return false;
  absl::string_view host = text.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return false;
  } else if (host.find(':') != absl::string_view::npos) {
    // An IPv6 address without brackets, whose last group would be taken for a port.
    return false;
  }
  address.host = std::string(host);
  return !host.empty();
}

bool Parse(absl::string_view text, Address& address) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == ',' || c == 0x7f) return false;
  }
  if (absl::ConsumePrefix(&text, "unix:")) {
    address.kind = Address::Kind::kUnix;
    address.path = std::string(text);
    return !text.empty();
  }
  if (absl::ConsumePrefix(&text, "dns:")) {
    address.kind = Address::Kind::kDns;
    if (absl::ConsumePrefix(&text, "//")) {
      const size_t slash = text.find('/');
      if (slash == absl::string_view::npos) return false;
      address.resolver = std::string(text.substr(0, slash));
      text.remove_prefix(slash + 1);
    }
  }
  return ParseHostAndPort(text, address);
}

}  // namespace

bool IsLocalAddress(const Address& address) {
  return address.kind == Address::Kind::kUnix || IsLoopbackHost(address.host);
}

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  Address address;
  if (Parse(text, address)) return address;
  return absl::InvalidArgumentError(absl::StrCat("address \"", Printable(text),
                                                 "\" is not one; give HOST:PORT, [IPV6]:PORT, unix:/PATH or "
                                                 "dns:///HOST:PORT"));
}

std::string HostAndPort(absl::string_view host, uint16_t port) {
  const bool brackets = host.find(':') != absl::string_view::npos;
  return absl::StrCat(brackets ? "[" : "", host, brackets ? "]:" : ":", port);
}

}  // namespace weightstream
