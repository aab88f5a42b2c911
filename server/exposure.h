// Where a server may listen without saying so twice.
#ifndef WEIGHTSTREAM_SERVER_EXPOSURE_H_
#define WEIGHTSTREAM_SERVER_EXPOSURE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/security_options.h"

namespace weightstream {

// Whether the host of HOST:PORT or [V6]:PORT is (proto/loopback.h).
bool IsLoopback(absl::string_view address);

// OK where an address (as ServerOptions::listen, its form checked) and the options go together. INVALID_ARGUMENT, with
// the flags that would allow it, for plaintext on an address that other hosts may reach, for tokens in plaintext over
// TCP, and for a certificate without its key.
absl::Status CheckExposure(const std::string& address, const SecurityOptions& options);

// The same of where metrics are served, which is plain HTTP without a token whatever the server itself speaks. Empty,
// for not at all, is OK.
absl::Status CheckMetricsExposure(const std::string& address, const SecurityOptions& options);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_EXPOSURE_H_
