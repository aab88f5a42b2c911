// One chunk's way from the socket's slices into the target.
#ifndef WEIGHTSTREAM_SERVER_LANDING_H_
#define WEIGHTSTREAM_SERVER_LANDING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "kernels/device.h"
#include "kernels/staging.h"
#include "proto/chunk_codec.h"
#include "server/chunk_check.h"
#include "server/update.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

// Lands the chunks of one stream in one update. Used by one thread; copies complete on the device's.
//
// Where the device needs no staging the bytes are copied straight into the target, summed on the way, and count as
// landed if the sum is right. Else they are copied into a staging slot, summed on the way, and only if the sum is right
// does one asynchronous copy bring them into the target: they count as landed once that has completed, and the slot is
// free again.
class ChunkLander {
 public:
  // `staging` is null for a device that needs none. `copy_wait` bounds the waits for a slot and for the copies in
  // flight; `cancelled` is asked while a slot is waited for.
  ChunkLander(Device& device, StagingRing* staging, std::shared_ptr<Update> update, absl::Duration copy_wait,
              std::function<bool()> cancelled);
  ~ChunkLander();
  ChunkLander(const ChunkLander&) = delete;
  ChunkLander& operator=(const ChunkLander&) = delete;

  // Takes the chunk in, or starts to. DATA_LOSS for a wrong checksum: the range stays missing. RESOURCE_EXHAUSTED if
  // the medium is full. An error of an earlier chunk's copy may be returned instead.
  absl::Status Land(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces);

  // Waits until every copy that was started has completed, and says how they went. DEADLINE_EXCEEDED if the device does
  // not complete them: their callbacks own what they need, so that it does no harm to go away before.
  absl::Status Finish();

 private:
  // Copies in flight, shared with their callbacks.
  struct InFlight {
    absl::Mutex mutex;
    MonotonicCondVar none;
    int copies ABSL_GUARDED_BY(mutex) = 0;
    absl::Status first_error ABSL_GUARDED_BY(mutex);
  };

  // Bytes that lie together both in the payload and in the target, and so take one copy.
  struct Run {
    ByteRange in_payload;
    uint64_t in_target = 0;
    // Which of the claimed ranges they are: [first, end).
    size_t first_claim = 0;
    size_t end_claim = 0;
  };
  // What of a chunk is ours to write.
  struct Claims {
    std::vector<TensorRange> ranges;
    std::vector<Run> runs;
  };

  Claims Claim(const CheckedChunk& chunk);
  absl::Status LandDirectly(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces,
                            const Claims& claims);
  absl::Status LandThroughStaging(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces, Claims claims);
  absl::Status Prepare(const Claims& claims);

  // A chunk in its slot, for as long as copies of it are under way.
  struct Staged {
    StagingSlot slot;
    std::shared_ptr<Update> update;
    Claims claims;
  };
  // One copy from the slot; the claims from `first` to `end` are in place once it is done.
  struct Copy {
    uint64_t in_slot = 0;
    uint64_t bytes = 0;
    Target* target = nullptr;
    uint64_t in_target = 0;
    absl::optional<FloatCast> cast;
    size_t first_claim = 0;
    size_t end_claim = 0;
  };
  // What is to be copied to the arena; and to registered targets, for which the bytes in the slot are moved together.
  std::vector<Copy> CopiesToArena(const Claims& claims);
  absl::StatusOr<std::vector<Copy>> CopiesToTargets(const Claims& claims, char* staged);
  void Start(const Copy& copy, const std::shared_ptr<const Staged>& staged);

  Device& device_;
  StagingRing* const staging_;
  const std::shared_ptr<Update> update_;
  const absl::Duration copy_wait_;
  const std::function<bool()> cancelled_;
  const std::shared_ptr<InFlight> in_flight_ = std::make_shared<InFlight>();
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LANDING_H_
