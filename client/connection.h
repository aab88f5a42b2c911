// How a client reaches a server: address and time limits; security.h has its credentials. No gRPC types, so that a user
// of the library needs none of its headers.
#ifndef WEIGHTSTREAM_CLIENT_CONNECTION_H_
#define WEIGHTSTREAM_CLIENT_CONNECTION_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightstream {

// Every wait in the client is bounded by one of these.
struct TimeLimits {
  // To reach a server at first, and again after each loss of all connections: retried with backoff until then, counted
  // from the server's last sign of life. Some seconds less than the 30 within which the death of a server is to be
  // known, for the last attempt to end in, and the report.
  absl::Duration connect = absl::Seconds(25);
  // For a call that does not depend on the model's size: all but a commit, and those that carry or read payload.
  absl::Duration call = absl::Seconds(30);
  // Without a byte of progress while data are under way, the server counts as dead.
  absl::Duration stall = absl::Seconds(30);
  // Added for slow disks: to `call`, per GiB of model, for a commit, which may have to write it all; and to `stall`,
  // per GiB of the largest tensor, while a server computes digests, which it reports a tensor at a time.
  absl::Duration per_gib = absl::Seconds(20);
  // HTTP/2 keepalive: a peer that is gone or stopped is found out within the sum.
  absl::Duration keepalive_time = absl::Seconds(10);
  absl::Duration keepalive_timeout = absl::Seconds(10);
};

// INVALID_ARGUMENT, naming the limit, unless each is positive (per_gib may be zero).
absl::Status ValidateTimeLimits(const TimeLimits& limits);

// What ParseAddress (address.h) takes. INVALID_ARGUMENT, quoting the address, otherwise. Only the form is checked;
// nothing is resolved. An address is one server here, also where dns:/// stands for several: fleet.h tells them apart.
absl::Status ValidateAddress(absl::string_view address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_CONNECTION_H_
