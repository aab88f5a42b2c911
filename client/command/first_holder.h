// Which of several servers to read a version from.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_FIRST_HOLDER_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_FIRST_HOLDER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/read.h"

namespace weightstream::command {

// The first that answers that it holds options.version, or any version where that is 0. All are asked at once, so that
// a dead one costs nothing while another answers; a single one is taken unasked. Where none holds it: the first one's
// error, and what each said. Requires at least one server.
absl::StatusOr<std::string> FirstHolder(const std::vector<std::string>& servers, const ReadOptions& options);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_FIRST_HOLDER_H_
