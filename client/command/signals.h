// What signals mean to the command: an orderly end at the first SIGINT or SIGTERM, and a clear word on a vanished
// source.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_SIGNALS_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_SIGNALS_H_

namespace weightstream::command {

// SIGPIPE is ignored: a lost peer or a closed pipe is an error of the write, not the end of the process. The first
// SIGINT or SIGTERM makes Interrupted() true; the second ends the process at once with exit code 1. SIGBUS, which a
// read of a memory- mapped file raises when the file was truncated meanwhile, says so on stderr (and as JSON on stdout
// if `json`) and exits 1. To be called once, before other threads start.
void InstallSignalHandlers(bool json);

// Any thread.
bool Interrupted();

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_SIGNALS_H_
