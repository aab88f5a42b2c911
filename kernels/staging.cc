#include "kernels/staging.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tensor/monotonic_clock.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {
namespace {

// Two threads that fill neighbouring slots should not share a line.
constexpr uint64_t kSlotAlignment = 64;
// One slot to fill while another is copied.
constexpr uint64_t kLeastSlots = 2;
// How long a call that was given up may go on waiting.
constexpr absl::Duration kCancellationPoll = absl::Milliseconds(100);

}  // namespace

// The slots, shared by the ring and whoever holds one, so that the memory stays as long as it is in use.
class StagingPool {
 public:
  StagingPool(std::unique_ptr<PinnedMemory> memory, uint64_t slots, uint64_t slot_bytes, uint64_t stride)
      : memory_(std::move(memory)), slots_(slots), slot_bytes_(slot_bytes) {
    free_.reserve(slots);
    // Taken from the back: a slot that was just given back is the one that the caches know best.
    for (uint64_t slot = slots; slot > 0; --slot) free_.push_back(memory_->data() + (slot - 1) * stride);
  }

  uint64_t slot_bytes() const { return slot_bytes_; }

  // A free slot, or null.
  char* TryTake() {
    absl::MutexLock lock(&mutex_);
    return TakeIfFree();
  }

  // A slot that comes free within `limit`, or null.
  char* TakeWithin(absl::Duration limit) {
    absl::MutexLock lock(&mutex_);
    returned_.AwaitFor(mutex_, limit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !free_.empty(); });
    return TakeIfFree();
  }

  void Return(char* slot) {
    absl::MutexLock lock(&mutex_);
    free_.push_back(slot);
    // One is enough: whoever wakes takes it, also one whose time runs out just then.
    returned_.Signal();
  }

  void CountWait(absl::Duration waited) {
    absl::MutexLock lock(&mutex_);
    ++waits_;
    waited_ += waited;
  }

  StagingRing::Stats stats() const {
    absl::MutexLock lock(&mutex_);
    return {slots_, slots_ - free_.size(), waits_, waited_};
  }

 private:
  char* TakeIfFree() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (free_.empty()) return nullptr;
    char* slot = free_.back();
    free_.pop_back();
    return slot;
  }

  const std::unique_ptr<PinnedMemory> memory_;
  const uint64_t slots_;
  const uint64_t slot_bytes_;
  mutable absl::Mutex mutex_;
  MonotonicCondVar returned_;
  std::vector<char*> free_ ABSL_GUARDED_BY(mutex_);
  uint64_t waits_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration waited_ ABSL_GUARDED_BY(mutex_);
};

StagingSlot::StagingSlot(std::shared_ptr<StagingPool> pool, char* data) : pool_(std::move(pool)), data_(data) {}

StagingSlot::StagingSlot(StagingSlot&& other) noexcept
    : pool_(std::move(other.pool_)), data_(std::exchange(other.data_, nullptr)) {}

StagingSlot& StagingSlot::operator=(StagingSlot&& other) noexcept {
  if (this == &other) return *this;
  Release();
  pool_ = std::move(other.pool_);
  data_ = std::exchange(other.data_, nullptr);
  return *this;
}

StagingSlot::~StagingSlot() { Release(); }

void StagingSlot::Release() {
  if (data_ != nullptr) pool_->Return(std::exchange(data_, nullptr));
  pool_.reset();
}

StagingRing::StagingRing(std::shared_ptr<StagingPool> pool) : pool_(std::move(pool)) {}

StagingRing::~StagingRing() = default;

absl::StatusOr<std::unique_ptr<StagingRing>> StagingRing::Create(Device& device, uint64_t total_bytes,
                                                                 uint64_t slot_bytes) {
  if (slot_bytes == 0) return absl::InvalidArgumentError("a staging slot must have at least one byte");
  const uint64_t slots = std::max(kLeastSlots, total_bytes / slot_bytes);
  if (slot_bytes > std::numeric_limits<uint64_t>::max() / slots - kSlotAlignment) {
    return absl::InvalidArgumentError(absl::StrCat("staging slots of ", slot_bytes, " bytes are beyond any memory"));
  }
  const uint64_t stride = (slot_bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  absl::StatusOr<std::unique_ptr<PinnedMemory>> memory = device.AllocatePinned(slots * stride);
  if (!memory.ok()) return memory.status();
  auto pool = std::make_shared<StagingPool>(*std::move(memory), slots, slot_bytes, stride);
  return std::unique_ptr<StagingRing>(new StagingRing(std::move(pool)));
}

uint64_t StagingRing::slot_bytes() const { return pool_->slot_bytes(); }

absl::StatusOr<StagingSlot> StagingRing::Acquire(absl::Duration patience, const std::function<bool()>& cancelled) {
  if (char* slot = pool_->TryTake(); slot != nullptr) return StagingSlot(pool_, slot);
  const absl::Duration start = MonotonicNow();
  const absl::Duration deadline = start + patience;
  char* slot = nullptr;
  absl::Status status;
  while (slot == nullptr && status.ok()) {
    const absl::Duration now = MonotonicNow();
    if (cancelled && cancelled()) {
      status = absl::CancelledError("the call was cancelled while it waited for a staging slot");
    } else if (now >= deadline) {
      status = absl::DeadlineExceededError(
          absl::StrCat("no staging slot came free within ", absl::FormatDuration(now - start),
                       "; the device lags behind the network, or too little memory is set aside for staging"));
    } else {
      slot = pool_->TakeWithin(std::min(deadline - now, kCancellationPoll));
    }
  }
  pool_->CountWait(MonotonicNow() - start);
  if (slot == nullptr) return status;
  return StagingSlot(pool_, slot);
}

StagingRing::Stats StagingRing::stats() const { return pool_->stats(); }

}  // namespace weightstream
