// gRPC, set up for processes that stream weights.
#ifndef WEIGHTSTREAM_PROCESS_GRPC_TUNING_H_
#define WEIGHTSTREAM_PROCESS_GRPC_TUNING_H_

namespace weightstream {

// Has gRPC wait for sockets with poll() instead of epoll, unless the environment's GRPC_POLL_STRATEGY says what to
// use, or gRPC has neither. With epoll one thread at a time waits for all connections, reads what has come for each,
// and hands it to the thread that wants it, which sleeps and is woken for every message; with poll a thread that wants
// a message waits for its own connection and reads it itself (docs/decisions/0008-poll.md). The cost: a thread that
// waits passes the kernel the list of what it waits for each time.
//
// Initializes gRPC, for good, as the choice is made there once; does nothing if that has been done. Call it when the
// signals that gRPC's threads shall not get are blocked, and before other threads read the environment, which it
// changes for a moment. It concerns the whole process, so libraries must not call it; a program that uses //client:push
// is faster if it does. gRPC's threads then live to the end of the process: see openssl_at_exit.h.
void TuneGrpcForStreaming();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROCESS_GRPC_TUNING_H_
