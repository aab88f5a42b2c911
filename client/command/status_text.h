// The state of models as tables for a person, at most 80 columns wide where names allow. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream::command {

// One row a model.
std::string ModelsTable(const std::vector<v1::Model>& models, absl::Time now);

// Everything of one model: versions, the update in flight, the updates that ended and why.
std::string ModelDetail(const v1::Model& model, absl::Time now);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_
