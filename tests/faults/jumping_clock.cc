// A wall clock that jumps for one process: loaded into it with LD_PRELOAD, it adds an offset to CLOCK_REALTIME.
//
//   JUMPING_CLOCK=FILE LD_PRELOAD=libjumping_clock.so weightstream-server ...
//
// FILE holds the offset in nanoseconds, 8 bytes, little-endian, and may be written at any time: all clocks of the
// process that follow the wall clock jump at once, and the monotonic ones do not, as when an administrator or NTP sets
// the time. Absolute waits follow the clock as the kernel's do: Abseil waits on futexes with deadlines of the wall
// clock, through syscall(2). Not covered, because nothing here uses them: timerfd, pthread_cond_timedwait,
// clock_nanosleep.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
// A wait in progress notices a jump this late.
constexpr int64_t kSliceNanos = 50'000'000;

const std::atomic<int64_t>* MapOffset() {
  const char* path = std::getenv("JUMPING_CLOCK");
  const int fd = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  void* mapped = fd < 0 ? MAP_FAILED : ::mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (fd >= 0) ::close(fd);
  if (mapped == MAP_FAILED) {
    std::fprintf(stderr, "jumping_clock: JUMPING_CLOCK names no file of 8 bytes\n");
    std::_Exit(2);
  }
  return static_cast<const std::atomic<int64_t>*>(mapped);
}

int64_t OffsetNanos() {
  static const std::atomic<int64_t>* const offset = MapOffset();
  return offset->load();
}

int64_t ToNanos(const timespec& time) { return time.tv_sec * kNanosPerSecond + time.tv_nsec; }

timespec ToTimespec(int64_t nanos) {
  return {static_cast<time_t>(nanos / kNanosPerSecond), static_cast<long>(nanos % kNanosPerSecond)};
}

using SystemCall = long (*)(long, ...);

SystemCall RealSystemCall() {
  static const SystemCall real = reinterpret_cast<SystemCall>(::dlsym(RTLD_NEXT, "syscall"));
  return real;
}

int64_t RealNanos() {
  timespec now{};
  RealSystemCall()(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return ToNanos(now);
}

bool FollowsTheWallClock(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

// A wait until a moment of the clock that jumps, in slices of the one that does not.
long WaitOnFutex(long arguments[6]) {
  const int64_t deadline = ToNanos(*reinterpret_cast<const timespec*>(arguments[3]));
  for (;;) {
    const int64_t now = RealNanos();
    const int64_t left = deadline - OffsetNanos() - now;
    const timespec until = ToTimespec(now + (left < kSliceNanos ? left : kSliceNanos));
    if (left <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    const long result =
        RealSystemCall()(SYS_futex, arguments[0], arguments[1], arguments[2], &until, arguments[4], arguments[5]);
    if (result == 0 || errno != ETIMEDOUT) return result;
  }
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const long result = RealSystemCall()(SYS_clock_gettime, clock, time);
  if (result == 0 && FollowsTheWallClock(clock)) *time = ToTimespec(ToNanos(*time) + OffsetNanos());
  return static_cast<int>(result);
}

int gettimeofday(timeval* time, void*) noexcept {
  const timespec now = ToTimespec(RealNanos() + OffsetNanos());
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* out) noexcept {
  const time_t now = (RealNanos() + OffsetNanos()) / kNanosPerSecond;
  if (out != nullptr) *out = now;
  return now;
}

long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long arguments[6];
  // Those that the call does not have are whatever lies there, as in the C library's own.
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  const bool until_wall_clock = number == SYS_futex && arguments[3] != 0 &&
                                (arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
                                (arguments[1] & FUTEX_CLOCK_REALTIME) != 0;
  if (until_wall_clock) return WaitOnFutex(arguments);
  return RealSystemCall()(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

}  // extern "C"
