// How much of a process' heap is in use, to the byte: loaded into it with LD_PRELOAD, it counts what is allocated and
// what is freed, and writes the difference down again and again.
//
//   HEAP_GAUGE=FILE LD_PRELOAD=libheap_gauge.so weightstream-server ...
//
// FILE, of 8 bytes, holds the bytes that were allocated and not freed, little-endian. Resident memory cannot tell a
// leak of some bytes an update: malloc keeps what was once needed at the same time, so that it grows in steps, with the
// most that was ever in flight. Nor can malloc's own statistics, in which its caches count as in use.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

// glibc's own, under the names that it has for those who put themselves before it.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void* block);
}

namespace {

// Often enough that moments at which little is in flight are among those that are seen.
constexpr timespec kPeriod = {0, 5'000'000};

std::atomic<int64_t> in_use_bytes = 0;

void* Added(void* block) {
  if (block != nullptr) in_use_bytes.fetch_add(static_cast<int64_t>(malloc_usable_size(block)));
  return block;
}

void Remove(void* block) {
  if (block != nullptr) in_use_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(block)));
}

[[noreturn]] void Refuse(const char* why) {
  std::fprintf(stderr, "heap_gauge: %s\n", why);
  std::_Exit(2);
}

void* WriteDown(void* file) {
  auto* const written = static_cast<std::atomic<int64_t>*>(file);
  while (true) {
    written->store(in_use_bytes.load());
    nanosleep(&kPeriod, nullptr);  // lint-allow(no-sleep): the period of a gauge; nothing waits for it.
  }
}

__attribute__((constructor)) void Start() {
  const char* path = std::getenv("HEAP_GAUGE");
  const int fd = path == nullptr ? -1 : ::open(path, O_RDWR | O_CLOEXEC);
  void* file = fd < 0 ? MAP_FAILED : ::mmap(nullptr, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd >= 0) ::close(fd);
  if (file == MAP_FAILED) Refuse("HEAP_GAUGE names no file of 8 bytes");
  // The program's signals are for its own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, &WriteDown, file) != 0) Refuse("cannot start its thread");
  pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

extern "C" {

void* malloc(size_t bytes) { return Added(__libc_malloc(bytes)); }

void* calloc(size_t count, size_t bytes) { return Added(__libc_calloc(count, bytes)); }

void* realloc(void* block, size_t bytes) {
  const size_t before = block == nullptr ? 0 : malloc_usable_size(block);
  void* const moved = __libc_realloc(block, bytes);
  // A block that cannot grow stays as it is; one of no bytes is freed.
  if (moved != nullptr || bytes == 0) in_use_bytes.fetch_sub(static_cast<int64_t>(before));
  return Added(moved);
}

void free(void* block) {
  Remove(block);
  __libc_free(block);
}

void* memalign(size_t alignment, size_t bytes) { return Added(__libc_memalign(alignment, bytes)); }

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** block, size_t alignment, size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block == nullptr ? ENOMEM : 0;
}

}  // extern "C"
