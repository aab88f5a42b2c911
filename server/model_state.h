// What is known of a model as a message.
#ifndef WEIGHTSTREAM_SERVER_MODEL_STATE_H_
#define WEIGHTSTREAM_SERVER_MODEL_STATE_H_

#include "server/commit_hook_runner.h"
#include "server/model.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

v1::Model ToProto(const ModelSnapshot& snapshot);

v1::TargetsState TargetsStateOf(const ModelSnapshot& snapshot);

v1::CommitHook ToProto(const CommitHookRecord& record);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_STATE_H_
