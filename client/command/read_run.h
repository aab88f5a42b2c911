// What pull and verify share: their flags' options, and progress of one transfer.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_READ_RUN_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_READ_RUN_H_

#include <string>

#include "client/command/progress_printer.h"
#include "client/read.h"
#include "flags/command_line.h"

namespace weightstream::command {

// From --model, --version, --connect-seconds and --stall-seconds.
ReadOptions ReadOptionsFrom(const CommandLine& line);

// Shows on `printer`, which must outlive the callback, how far `server` is.
ReadProgressCallback ShowOn(ProgressPrinter& printer, const std::string& server, const std::string& phase);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_READ_RUN_H_
