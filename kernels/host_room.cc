#include "kernels/host_room.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weightstream {

HostRoom::Part::~Part() {
  if (room_ == nullptr) return;
  absl::MutexLock lock(&room_->mutex_);
  room_->taken_ -= bytes_;
}

absl::StatusOr<HostRoom::Part> HostRoom::Take(std::shared_ptr<HostRoom> room, uint64_t bytes) {
  {
    absl::MutexLock lock(&room->mutex_);
    const uint64_t free = room->bytes_ - room->taken_;
    if (bytes > free) {
      return absl::ResourceExhaustedError(absl::StrCat("host-memory: no ", bytes, " bytes for a target, where ", free,
                                                       " of ", room->bytes_,
                                                       " are free; keep fewer versions "
                                                       "(--keep-versions), or give the server more"));
    }
    room->taken_ += bytes;
  }
  return Part(std::move(room), bytes);
}

}  // namespace weightstream
