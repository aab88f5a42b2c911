// The servers that a command is for: what --to or --from says, files read and names looked up.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_FIND_SERVERS_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_FIND_SERVERS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/security.h"

namespace weightstream::command {

// Requires items that ValidateFleetItem takes. Names are looked up for `limit` at most, or until the user interrupts
// (CANCELLED). Notes in `security` by which name each was found: so their certificates are checked. Errors as of
// FindFleet (client/fleet.h).
absl::StatusOr<std::vector<std::string>> FindServers(const std::vector<std::string>& items, absl::Duration limit,
                                                     Security& security);

// Calls `work` with the index of each of so many servers, all at once, each on a thread of its own as far as there are
// threads to be had; returns once all have returned. A dead server costs its deadline, and deadlines must not add up.
void OnEachServer(size_t servers, const std::function<void(size_t)>& work);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_FIND_SERVERS_H_
