// The bounded ring of pinned buffers between the wire and the device.
//
// It bounds the memory that a server needs beyond its targets, whatever the model's size, and is the brake of the whole
// path: no free slot means that the next chunk is not read from its socket, and TCP holds the sender back.
#ifndef WEIGHTSTREAM_KERNELS_STAGING_H_
#define WEIGHTSTREAM_KERNELS_STAGING_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"

namespace weightstream {

class StagingPool;

// One slot, for as long as this object lives; movable. May be destroyed on any thread, before or after its ring: the
// slots keep the memory. It must not outlive the device.
class StagingSlot {
 public:
  StagingSlot() = default;
  StagingSlot(StagingSlot&&) noexcept;
  StagingSlot& operator=(StagingSlot&&) noexcept;
  ~StagingSlot();

  // Null if this object holds no slot.
  char* data() const { return data_; }

 private:
  friend class StagingRing;
  StagingSlot(std::shared_ptr<StagingPool> pool, char* data);

  // Gives the slot back to its pool.
  void Release();

  std::shared_ptr<StagingPool> pool_;
  char* data_ = nullptr;
};

// Thread-safe.
class StagingRing {
 public:
  struct Stats {
    uint64_t slots = 0;
    uint64_t slots_in_use = 0;
    // How many Acquire calls had to wait, and for how long together (calls that still wait are not in yet).
    uint64_t waits = 0;
    absl::Duration waited;
  };

  // Allocates total_bytes / slot_bytes slots, at least two, as one block of the device's pinned memory, once. Each slot
  // starts on a cache line. INVALID_ARGUMENT if slot_bytes is 0 or beyond reason; or the device's error.
  static absl::StatusOr<std::unique_ptr<StagingRing>> Create(Device& device, uint64_t total_bytes, uint64_t slot_bytes);

  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  uint64_t slot_bytes() const;

  // A free slot. Waits for one, for `patience` at most (DEADLINE_EXCEEDED), and asks `cancelled` several times a second
  // (CANCELLED once it says true; may be empty). A slot that is free is given without asking either. Waiters are served
  // as slots come free, in no promised order.
  absl::StatusOr<StagingSlot> Acquire(absl::Duration patience, const std::function<bool()>& cancelled);

  Stats stats() const;

 private:
  explicit StagingRing(std::shared_ptr<StagingPool> pool);

  const std::shared_ptr<StagingPool> pool_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_STAGING_H_
