// A library to preload (LD_PRELOAD) that ends the process, as SIGKILL does, before a chosen step on its files.
//
// The steps are the calls below, counted from the process's first fdatasync, which is how a commit begins: number 0.
// WEIGHTSTREAM_CRASH_STEP says which one is never made. Each step that is made is written to stderr, so that a test can
// see what it went through. Calls may come from any thread.
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<int> next_step{-1};

template <typename Function>
Function* RealFunction(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// `begins` starts the count, if it has not started yet.
void Step(const char* name, bool begins = false) {
  int none = -1;
  if (begins) next_step.compare_exchange_strong(none, 0);
  if (next_step.load() < 0) return;
  static const char* const chosen = std::getenv("WEIGHTSTREAM_CRASH_STEP");
  const int step = next_step.fetch_add(1);
  const bool crash = chosen != nullptr && step == std::atoi(chosen);
  std::fprintf(stderr, "crash_point: step %d, %s%s\n", step, name, crash ? ": crash" : "");
  if (crash) kill(getpid(), SIGKILL);
}

}  // namespace

extern "C" {

int fdatasync(int fd) {
  Step("fdatasync", true);
  return RealFunction<int(int)>("fdatasync")(fd);
}

int fsync(int fd) {
  Step("fsync");
  return RealFunction<int(int)>("fsync")(fd);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  Step("renameat");
  return RealFunction<int(int, const char*, int, const char*)>("renameat")(from_folder, from, to_folder, to);
}

int symlinkat(const char* target, int folder, const char* path) noexcept {
  Step("symlinkat");
  return RealFunction<int(const char*, int, const char*)>("symlinkat")(target, folder, path);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  Step("unlinkat");
  return RealFunction<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}

int utimensat(int folder, const char* path, const struct timespec times[2], int flags) noexcept {
  Step("utimensat");
  return RealFunction<int(int, const char*, const struct timespec*, int)>("utimensat")(folder, path, times, flags);
}

}  // extern "C"
