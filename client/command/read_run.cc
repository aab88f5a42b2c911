#include "client/command/read_run.h"

#include "client/command/common_flags.h"

namespace weightstream::command {

ReadOptions ReadOptionsFrom(const CommandLine& line) {
  ReadOptions options;
  options.model = line.Text("model");
  options.version = line.Number("version", 0);
  options.limits = TimeLimitsFrom(line);
  options.security = SecurityFrom(line);
  return options;
}

ReadProgressCallback ShowOn(ProgressPrinter& printer, const std::string& server, const std::string& phase) {
  return [&printer, server, phase](uint64_t done_bytes, uint64_t total_bytes) {
    printer.Update(server, {.phase = phase, .done_bytes = done_bytes, .total_bytes = total_bytes});
  };
}

}  // namespace weightstream::command
