// The addresses that a name stands for, as the system's resolver knows them.
#ifndef WEIGHTSTREAM_CLIENT_NAME_LOOKUP_H_
#define WEIGHTSTREAM_CLIENT_NAME_LOOKUP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weightstream {

// Numeric addresses of a name, without brackets and at least one: "10.0.0.5", "2001:db8::5". Passed in, so that a test
// can have names of its own.
using NameLookup = std::function<absl::StatusOr<std::vector<std::string>>(const std::string& name)>;

// The system's: /etc/hosts, DNS and what else nsswitch.conf says. Every A and every AAAA record of a family that this
// host has an address of, each once, in numerical order with IPv4 first, so that two calls agree. All lookups together
// take `limit` at most, from now on; `cancelled`, if given, is asked several times a second. UNAVAILABLE names the
// name, what the resolver said and what to do; DEADLINE_EXCEEDED, CANCELLED.
NameLookup SystemNameLookup(absl::Duration limit, std::function<bool()> cancelled = nullptr);

// The same bounds for any lookup that blocks and cannot be ended. One that is given up goes on in a thread of its own
// until it ends by itself.
NameLookup WithinLimit(NameLookup blocking, absl::Duration limit, std::function<bool()> cancelled);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_NAME_LOOKUP_H_
