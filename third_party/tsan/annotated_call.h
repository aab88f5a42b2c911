// How the annotations in this folder stand in front of the system's Abseil.
//
// ThreadSanitizer learns that one thread's work happens before another's from instrumented code. Debian's Abseil is
// not instrumented, so what absl::Mutex and its kin order looks like a race. Each .cc here defines the same functions
// as libabsl_synchronization.so; the executable's definitions win, tell ThreadSanitizer what is about to happen, and
// call the library's through CallNext. Built and linked only under --config=tsan.
//
// Thread-safety: every function may be called from any thread.
#ifndef WEIGHTSTREAM_THIRD_PARTY_TSAN_ANNOTATED_CALL_H_
#define WEIGHTSTREAM_THIRD_PARTY_TSAN_ANNOTATED_CALL_H_

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace weightstream::tsan {

// The definition of `mangled_name` after the executable's own, that is, the library's. Ends the process when there is
// none: the annotations were then written for another Abseil, and every report would be worthless.
inline void* NextDefinition(const char* mangled_name) {
  void* address = dlsym(RTLD_NEXT, mangled_name);
  if (address == nullptr) {
    std::fprintf(stderr,
                 "third_party/tsan: no shared library defines %s; link Abseil's shared libraries, and adapt the "
                 "annotations to its version\n",
                 mangled_name);
    std::abort();
  }
  return address;
}

// One function of the library, looked up at its first call: static initialisers of other libraries take locks before
// this file's own would have run.
template <typename Signature>
class NextFunction;

template <typename Result, typename... Arguments>
class NextFunction<Result(Arguments...)> {
 public:
  explicit constexpr NextFunction(const char* mangled_name) : mangled_name_(mangled_name) {}

  Result operator()(Arguments... arguments) {
    void* address = address_.load(std::memory_order_relaxed);
    if (address == nullptr) {
      address = NextDefinition(mangled_name_);
      address_.store(address, std::memory_order_relaxed);
    }
    return reinterpret_cast<Result (*)(Arguments...)>(address)(arguments...);
  }

 private:
  const char* mangled_name_;
  std::atomic<void*> address_{nullptr};
};

// Inside the library's own functions on this thread: their calls to each other come through here too (Await calls
// Lock's relatives), and must not be told twice.
class InsideLibrary {
 public:
  InsideLibrary() { ++depth_; }
  ~InsideLibrary() { --depth_; }
  InsideLibrary(const InsideLibrary&) = delete;
  InsideLibrary& operator=(const InsideLibrary&) = delete;

  static bool Nested() { return depth_ > 0; }

 private:
  static inline thread_local int depth_ = 0;
};

}  // namespace weightstream::tsan

#endif  // WEIGHTSTREAM_THIRD_PARTY_TSAN_ANNOTATED_CALL_H_
