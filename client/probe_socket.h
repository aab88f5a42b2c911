// A connected socket by hand, for the probe.
#ifndef WEIGHTSTREAM_CLIENT_PROBE_SOCKET_H_
#define WEIGHTSTREAM_CLIENT_PROBE_SOCKET_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightstream {

// The host in HOST:PORT, [V6]:PORT, dns:///HOST:PORT or dns://RESOLVER/HOST:PORT, without brackets; "localhost" for a
// unix socket: what a certificate is checked against.
std::string HostOf(absl::string_view address);

// A socket that is connected to the address, blocking, each of whose reads and writes takes `limit` at most; -1 if
// that is not to be had within `limit` an address. The caller closes it.
int ConnectSocket(const std::string& address, absl::Duration limit);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PROBE_SOCKET_H_
