// Keeps a file that is being written from being taken for a whole one.
#ifndef WEIGHTSTREAM_SERVER_TWO_LOOKS_H_
#define WEIGHTSTREAM_SERVER_TWO_LOOKS_H_

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

namespace weightstream {

// Whoever looks at files that change takes what it saw once the look before saw the same. A file that is written in
// place is short for a moment, and may be sound as far as it goes: a list of CAs between two of them, say. The looks
// are to be about a second apart. Thread-safe.
class TwoLooks {
 public:
  // What a look saw: content, or the error. Whether the look before saw the same.
  bool SawAgain(std::string seen) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (last_ == seen) return true;
    last_ = std::move(seen);
    return false;
  }

 private:
  absl::Mutex mutex_;
  absl::optional<std::string> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TWO_LOOKS_H_
