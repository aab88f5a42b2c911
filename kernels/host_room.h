// How much host memory a device without files may hand out: what stands for the size of a GPU's memory in tests.
#ifndef WEIGHTSTREAM_KERNELS_HOST_ROOM_H_
#define WEIGHTSTREAM_KERNELS_HOST_ROOM_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {

// Thread-safe.
class HostRoom {
 public:
  explicit HostRoom(uint64_t bytes) : bytes_(bytes) {}

  // Some of a room, for as long as this object lives; movable.
  class Part {
   public:
    Part() = default;
    Part(Part&& other) noexcept : room_(std::move(other.room_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Part& operator=(Part&& other) noexcept {
      std::swap(room_, other.room_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Part();

   private:
    friend class HostRoom;
    Part(std::shared_ptr<HostRoom> room, uint64_t bytes) : room_(std::move(room)), bytes_(bytes) {}

    std::shared_ptr<HostRoom> room_;
    uint64_t bytes_ = 0;
  };

  // RESOURCE_EXHAUSTED, with what was asked and what is free, if there is not so much left.
  static absl::StatusOr<Part> Take(std::shared_ptr<HostRoom> room, uint64_t bytes);

  uint64_t free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return bytes_ - taken_;
  }

 private:
  const uint64_t bytes_;
  mutable absl::Mutex mutex_;
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_HOST_ROOM_H_
