// The addresses that the server is told to listen on.
#ifndef WEIGHTSTREAM_SERVER_HOST_PORT_H_
#define WEIGHTSTREAM_SERVER_HOST_PORT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace weightstream {

struct HostPort {
  // Without the brackets of [V6]; may be empty. Not looked up.
  std::string host;
  // 0 to 65535.
  uint32_t port = 0;
};

// The parts of HOST:PORT or [V6]:PORT; nullopt for anything without a port. Pure, any thread.
absl::optional<HostPort> ParseHostPort(absl::string_view address);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_HOST_PORT_H_
