// What the calls of one server share.
#ifndef WEIGHTSTREAM_SERVER_CALL_ENVIRONMENT_H_
#define WEIGHTSTREAM_SERVER_CALL_ENVIRONMENT_H_

#include "kernels/device.h"
#include "kernels/staging.h"
#include "server/authorizer.h"
#include "server/commit_hook_runner.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/model_registry.h"
#include "server/open_calls.h"
#include "server/poller.h"
#include "server/target_claims.h"
#include "server/unsent_replies.h"
#include "server/version_medium.h"

namespace weightstream {

// All outlive the calls, and may be used from any thread.
struct CallEnvironment {
  ModelRegistry* registry = nullptr;
  const VersionMedium* medium = nullptr;
  OpenCalls* calls = nullptr;
  UnsentReplies* replies = nullptr;
  TargetClaims* claims = nullptr;
  Device* device = nullptr;
  // Null for a device that needs none.
  StagingRing* staging = nullptr;
  // Null where nobody is told of commits.
  CommitHookRunner* hooks = nullptr;
  const Limits* limits = nullptr;
  // Null where everybody may do everything.
  const Authorizer* authorizer = nullptr;
  Metrics* metrics = nullptr;
  Poller* poller = nullptr;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_CALL_ENVIRONMENT_H_
