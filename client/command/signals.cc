#include "client/command/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace weightstream::command {
namespace {

// Lock-free, hence allowed in a signal handler.
std::atomic<bool> interrupted{false};
std::atomic<bool> json_wanted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

constexpr char kTruncated[] =
    "weightstream: a source file was truncated, or its disk failed, while it was being read. "
    "Leave the files as they are while a command reads them, and run it again\n";
constexpr char kTruncatedJson[] =
    "{\"ok\":false,\"error\":{\"code\":\"DATA_LOSS\",\"message\":\"a source file was truncated, or its disk failed, "
    "while it "
    "was being read; leave the files as they are while a command reads them, and run it again\"}}\n";

// The result of a write that may fail is of no use to a process that is about to end.
void WriteAll(int fd, const char* text) { [[maybe_unused]] const ssize_t written = write(fd, text, strlen(text)); }

extern "C" void HandleInterrupt(int) {
  if (interrupted.exchange(true)) _exit(1);
}

extern "C" void HandleBusError(int) {
  WriteAll(STDERR_FILENO, kTruncated);
  if (json_wanted.load()) WriteAll(STDOUT_FILENO, kTruncatedJson);
  _exit(1);
}

void Install(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

}  // namespace

void InstallSignalHandlers(bool json) {
  json_wanted.store(json);
  Install(SIGPIPE, SIG_IGN);
  Install(SIGINT, HandleInterrupt);
  Install(SIGTERM, HandleInterrupt);
  Install(SIGBUS, HandleBusError);
}

bool Interrupted() { return interrupted.load(std::memory_order_relaxed); }

}  // namespace weightstream::command
