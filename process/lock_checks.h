// Abseil's locks, which gRPC's are too, set up for processes that stream weights.
#ifndef WEIGHTSTREAM_PROCESS_LOCK_CHECKS_H_
#define WEIGHTSTREAM_PROCESS_LOCK_CHECKS_H_

namespace weightstream {

// Has the process's locks not look for deadlocks. As Debian builds Abseil, each lock that is taken while another is
// held is entered into a graph, behind one lock for all threads, and an order that could end in a deadlock ends the
// process. That is for tests: those that have a server or a client within them keep it. It took a twentieth of a push's
// rate (docs/performance.md).
//
// It concerns the whole process, whatever else it does, so libraries must not call it. Any thread, at any time.
void LeaveOutLockChecks();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROCESS_LOCK_CHECKS_H_
