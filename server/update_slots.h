// How many updates may be in flight at once, of all models: each holds memory, or a promise of it.
#ifndef WEIGHTSTREAM_SERVER_UPDATE_SLOTS_H_
#define WEIGHTSTREAM_SERVER_UPDATE_SLOTS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace weightstream {

// Outlives its slots. Thread-safe.
class UpdateSlots {
 public:
  explicit UpdateSlots(uint64_t most) : most_(most) {}

  // One update's place; free again with the last who holds it.
  class Slot {
   public:
    ~Slot() { slots_.taken_.fetch_sub(1); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    friend class UpdateSlots;
    explicit Slot(UpdateSlots& slots) : slots_(slots) {}

    UpdateSlots& slots_;
  };

  // RESOURCE_EXHAUSTED if all are taken.
  absl::StatusOr<std::shared_ptr<Slot>> Take() {
    if (taken_.fetch_add(1) < most_) return std::shared_ptr<Slot>(new Slot(*this));
    taken_.fetch_sub(1);
    return absl::ResourceExhaustedError(
        absl::StrCat("this server has ", most_,
                     " updates in flight and begins no more; commit or abort one, try again later, or raise "
                     "--max-updates"));
  }

  bool full() const { return taken_.load() >= most_; }

 private:
  const uint64_t most_;
  std::atomic<uint64_t> taken_{0};
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_UPDATE_SLOTS_H_
