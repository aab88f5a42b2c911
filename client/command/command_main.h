// The program weightstream, to be called from main().
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_MAIN_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_MAIN_H_

namespace weightstream::command {

// Runs the command that the first argument names. Returns the exit code: 0 done, 1 failed, 2 bad usage. Call once,
// before any other thread starts: it installs signal handlers and sets up the allocator.
int CommandMain(int argc, char** argv);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_MAIN_H_
