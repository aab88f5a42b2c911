#include "process/lock_checks.h"

#include "absl/synchronization/mutex.h"

namespace weightstream {

void LeaveOutLockChecks() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

}  // namespace weightstream
