// Says once in the log why a file could not be read again, however often that is tried.
#ifndef WEIGHTSTREAM_SERVER_RELOAD_COMPLAINT_H_
#define WEIGHTSTREAM_SERVER_RELOAD_COMPLAINT_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {

// Thread-safe.
class ReloadComplaint {
 public:
  // The log's event, and what holds while the complaint does. Both live for ever.
  ReloadComplaint(const char* event, const char* note) : event_(event), note_(note) {}

  // How an attempt went. An error is logged unless the attempt before had the same.
  void Note(const absl::Status& outcome) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const char* const event_;
  const char* const note_;
  absl::Mutex mutex_;
  // Empty while all is well.
  std::string last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_RELOAD_COMPLAINT_H_
