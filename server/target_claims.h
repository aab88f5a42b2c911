// Which registered memory belongs to which model, so that no two models are written into the same.
#ifndef WEIGHTSTREAM_SERVER_TARGET_CLAIMS_H_
#define WEIGHTSTREAM_SERVER_TARGET_CLAIMS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/registered_targets.h"

namespace weightstream {

// Thread-safe.
class TargetClaims {
 public:
  using Id = uint64_t;

  // Claims the targets' bytes for a model. ALREADY_EXISTS, naming the other model, its owner and the tensors, if they
  // overlap with those of another one. A model's own are its own business.
  absl::StatusOr<Id> Claim(const std::string& model, const std::shared_ptr<const RegisteredTargets>& targets)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Nothing is written there any more. A claim that is not released ends with the targets.
  void Release(Id id) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Claimed {
    std::string model;
    std::weak_ptr<const RegisteredTargets> targets;
  };

  absl::Mutex mutex_;
  Id next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<Id, Claimed> claims_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TARGET_CLAIMS_H_
