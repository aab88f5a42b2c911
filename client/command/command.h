// A command of `weightstream`: its table and what it does.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_H_

#include "flags/command_line.h"

namespace weightstream::command {

struct Command {
  // Lives as long as the process.
  const CommandSpec& spec;
  // Takes a line that was parsed by `spec` and does not ask for help; returns the exit code. Called once, on the main
  // thread.
  int (*run)(const CommandLine& line);
};

Command PushCommand();
Command StatusCommand();
Command WatchCommand();
Command PullCommand();
Command VerifyCommand();
Command RollbackCommand();

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_COMMAND_H_
