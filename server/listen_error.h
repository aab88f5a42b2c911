// Why an address cannot be listened on.
#ifndef WEIGHTSTREAM_SERVER_LISTEN_ERROR_H_
#define WEIGHTSTREAM_SERVER_LISTEN_ERROR_H_

#include <string>

#include "absl/status/status.h"

namespace weightstream {

// Call before listening, which replaces a unix socket that is there.
// INVALID_ARGUMENT for an address that is not as ServerOptions::listen says; ALREADY_EXISTS for a unix socket that
// somebody answers at.
absl::Status CheckListenAddress(const std::string& address);

// Call after it failed to listen on `address` (as ServerOptions::listen). Tries the address once more by hand to
// learn the reason, and names it with the flag that changes it: ALREADY_EXISTS for one in use, PERMISSION_DENIED,
// INVALID_ARGUMENT for one that cannot be parsed.
absl::Status ListenError(const std::string& address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LISTEN_ERROR_H_
