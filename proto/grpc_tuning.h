// gRPC's process-wide settings, for processes that stream weights.
#ifndef WEIGHTSTREAM_PROTO_GRPC_TUNING_H_
#define WEIGHTSTREAM_PROTO_GRPC_TUNING_H_

namespace weightstream {

// Has gRPC wait for sockets with poll() instead of epoll, unless the environment's GRPC_POLL_STRATEGY says what to
// use. With epoll one thread at a time waits for all connections, reads what has come for each, and hands it to the
// thread that wants it, which sleeps and is woken for every message; with poll a thread that wants a message waits for
// its own connection and reads it itself (docs/decisions/0008-poll.md). The cost: a thread that waits passes the kernel
// the list of what it waits for each time.
//
// Initializes gRPC, for good, as the choice is made there once: call it before anything uses gRPC, when the signals
// that its threads shall not get are blocked, and before other threads read the environment. It concerns the whole
// process, so libraries must not call it; a program that uses //client:push is faster if it does.
void TuneGrpcForStreaming();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_GRPC_TUNING_H_
