#include "process/lock_checks.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/synchronization/mutex.h"

namespace weightstream {
namespace {

// Whether a process survives taking two locks in both orders.
bool SurvivesBothOrders(bool leave_out_checks) {
  const pid_t child = fork();
  if (child == 0) {
    if (leave_out_checks) LeaveOutLockChecks();
    absl::Mutex first;
    absl::Mutex second;
    for (absl::Mutex* outer : {&first, &second}) {
      absl::MutexLock outer_lock(outer);
      absl::MutexLock inner_lock(outer == &first ? &second : &first);
    }
    _exit(0);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(LockChecksTest, ASecondOrderNoLongerEndsTheProcess) {
  if (SurvivesBothOrders(/*leave_out_checks=*/false)) GTEST_SKIP() << "Abseil is built without these checks here";
  EXPECT_TRUE(SurvivesBothOrders(/*leave_out_checks=*/true));
}

}  // namespace
}  // namespace weightstream
