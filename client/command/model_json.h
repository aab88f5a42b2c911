// A model's state in JSON, one form for every command. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_MODEL_JSON_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_MODEL_JSON_H_

#include <string>

#include "absl/time/time.h"
#include "client/command/json_output.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream::command {

// "pending" and the like.
std::string CommitHookStateName(v1::CommitHookState state);

// "receiving", "committing", "committed", "aborted"; "unknown" for a state that is newer than this command.
std::string UpdateStateName(v1::UpdateState state);

// "beside", "in place"; "unknown" for one that is newer than this command, or a server that is older. Likewise below.
std::string UpdateModeName(v1::UpdateMode mode);

// "none", "whole", "updating", "untrusted".
std::string WeightsStateName(v1::WeightsState state);

bool InFlight(const v1::UpdateInfo& update);

// absl::InfinitePast() where it is absent.
absl::Time TimeOf(const google::protobuf::Timestamp& timestamp);

// Null where the model has none.
const v1::VersionInfo* CurrentVersion(const v1::Model& model);

Json ModelJson(const v1::Model& model);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_MODEL_JSON_H_
