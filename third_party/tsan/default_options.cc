// ThreadSanitizer's options, linked in: a test, a child process with an empty environment and a binary started by hand
// all run under the same ones. TSAN_OPTIONS still overrides each.

// gRPC and the C++ library are not instrumented: what they do between themselves is not ours to judge
// (ignore_noninstrumented_modules), nor is gRPC's lock order (detect_deadlocks).
extern "C" const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:detect_deadlocks=0:halt_on_error=1:second_deadlock_stack=1";
}

// The server's process ends without destroying gRPC's server, for the reason given in server/main.cc: gRPC's threads,
// finished, are then joined by nobody. Threads of ours that nobody joins are still reported.
//
// gRPC's own health service is written with callbacks; what its Watch writes as it finishes, and reads on another
// thread, is gRPC's affair, and reported only because the template's code happens to be taken from our binary. So is
// its answer to a method that nobody has. We use no such reactors.
extern "C" const char* __tsan_default_suppressions() {
  return "thread:grpc_core::Thread::Thread\n"
         "race:grpc::ServerWriteReactor<grpc::ByteBuffer>::Finish\n"
         "race:grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>\n";
}
