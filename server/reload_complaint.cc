#include "server/reload_complaint.h"

#include <utility>

#include "server/log.h"

namespace weightstream {

void ReloadComplaint::Note(const absl::Status& outcome) {
  std::string complaint = outcome.ok() ? "" : std::string(outcome.message());
  {
    absl::MutexLock lock(&mutex_);
    if (last_ == complaint) return;
    last_ = complaint;
  }
  if (!outcome.ok()) LogError(event_, {{"error", std::move(complaint)}, {"note", note_}});
}

}  // namespace weightstream
