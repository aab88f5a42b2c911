// The command line of weightstream-server, as a table, and what follows from it.
#ifndef WEIGHTSTREAM_SERVER_SERVER_FLAGS_H_
#define WEIGHTSTREAM_SERVER_SERVER_FLAGS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "flags/command_line.h"
#include "kernels/device.h"
#include "server/server.h"

namespace weightstream {

const CommandSpec& ServerCommand();

// The server's options; INVALID_ARGUMENT where flags contradict each other.
absl::StatusOr<ServerOptions> OptionsFrom(const CommandLine& line);

// The device that --device names. FAILED_PRECONDITION for one that this binary or this machine does not have.
absl::StatusOr<std::unique_ptr<Device>> DeviceFrom(const CommandLine& line);

// Whether the arguments ask for logs as JSON: known also where they do not parse, so that this is told as JSON too.
bool AsksForJsonLogs(absl::Span<const std::string> arguments);

// Starts the logs as --log-level and --log-format say.
absl::Status StartLoggingFrom(const CommandLine& line);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SERVER_FLAGS_H_
