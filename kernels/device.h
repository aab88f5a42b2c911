// The seam between the pipeline and the memory that weights end in. Everything above it is the same code for host
// memory and for a GPU; everything that differs is behind it.
//
// One chunk's way, above the seam (server/landing.cc):
//   target.Prepare(range)                 the medium has room for these bytes, or the push fails with
//   RESOURCE_EXHAUSTED if (device.needs_staging())           socket slices -> staging slot, checksum on the way,
//   checked, then
//     device.CopyToTarget(...)            one asynchronous copy, slot -> target + offset; the slot is free at `done`
//   else                                  socket slices -> target.host_data() + offset, checksum on the way
#ifndef WEIGHTSTREAM_KERNELS_DEVICE_H_
#define WEIGHTSTREAM_KERNELS_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cast_element.h"
#include "tensor/byte_range.h"

namespace weightstream {

// Memory that one update writes: the data section of one version. Freed (unmapped, closed) on destruction; a host
// target's file stays where it is, for its owner (the model store) to publish or remove.
// Thread-safe, but for overlapping writes, which the caller must keep apart.
class Target {
 public:
  virtual ~Target() = default;

  virtual uint64_t bytes() const = 0;

  // Guarantees that every byte of `range` can be written: later writes there cannot fail for want of room.
  // RESOURCE_EXHAUSTED if the medium is full, with what was asked and where. Idempotent; cheap where already done.
  // Requires range.end <= bytes().
  virtual absl::Status Prepare(ByteRange range) = 0;

  // Bytes for which that is so already. Only grows.
  virtual uint64_t prepared_bytes() const = 0;

  // True if Prepare takes about as long as filling the range would, so that it is worth doing ahead.
  virtual bool slow_to_prepare() const = 0;

  // Where the memory starts, for a target that Device::Open made: a place in the device's address space, so that
  // targets of the same memory overlap there, whatever it was called by whoever shared it. 0 for other targets.
  virtual uint64_t device_address() const { return 0; }

  // The memory, where the processor can write it directly after Prepare; null where only the device reaches it.
  virtual char* host_data() = 0;

  // Makes what was written durable, as far as the medium is: fsync for a file, nothing for device memory.
  virtual absl::Status Sync() = 0;
};

// What a target is made of.
struct TargetSpec {
  uint64_t bytes = 0;
  // For a device that keeps files: an existing one that is to hold the bytes, and where in it they start (a multiple of
  // 4096). The file is grown to hold them, without allocating. Other devices have no use for them.
  std::string path = {};
  uint64_t start_in_file = 0;
  // That file, open for reading and writing, for as long as CreateTarget takes; `path` is then for messages only. By
  // default the path is opened.
  int file = -1;
};

// Memory from which a device copies fast: page-locked for a GPU, plain for host backends. Freed on destruction.
class PinnedMemory {
 public:
  virtual ~PinnedMemory() = default;
  virtual char* data() = 0;
  virtual uint64_t bytes() const = 0;
};

// A range of one allocation of a device, as it is told to another process of the same machine. What comes from outside
// is not to be trusted in any part.
struct SharedMemory {
  // Names the whole allocation, in the device's own form: for CUDA the 64 bytes of a cudaIpcMemHandle_t.
  std::string handle;
  // Of the device: for CUDA the 16 bytes of its UUID. Indices differ between processes (CUDA_VISIBLE_DEVICES).
  std::string device_uuid;
  // Where in the allocation the range starts, and its size.
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// What a GPU sums as a piece: see digest_segment.h.
inline constexpr uint64_t kDigestBlockMultiple = 64 << 10;

// A place that holds targets, and the way into them. Outlives its targets and pinned memory. Thread-safe.
class Device {
 public:
  // Called exactly once, on any thread, perhaps before CopyToTarget returns; must not block, and must not call back
  // into the device except to start another copy. OK means that the bytes are in the target, visible to whoever reads
  // it. It owns what the copy needs: a device that has failed and cannot say whether a copy is over calls `done`, and
  // then keeps it, with all that it owns, until the process ends.
  using CopyDone = std::function<void(absl::Status)>;

  virtual ~Device() = default;

  // For messages: "host", "host (device-like)", "cuda:0".
  virtual std::string name() const = 0;

  // False if chunks are to be written straight into Target::host_data().
  virtual bool needs_staging() const = 0;

  // True if a target is a part of a file, which stays when the target goes; false if it is memory, which does not.
  virtual bool keeps_files() const = 0;

  // RESOURCE_EXHAUSTED, with what was asked and what there is; INVALID_ARGUMENT for a spec that this device cannot use.
  virtual absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) = 0;

  // What a target of so many bytes takes of the memory that FreeBytes tells of: at least as much.
  virtual uint64_t TargetFootprint(uint64_t bytes) const { return bytes; }

  // How much memory is free for targets now. Others may take of it at any time (a GPU is shared with other processes),
  // so that it is no promise: CreateTarget decides. UNIMPLEMENTED for files, whose room is asked for as they are
  // prepared.
  virtual absl::StatusOr<uint64_t> FreeBytes() {
    return absl::UnimplementedError(name() + ": this device does not tell how much of it is free");
  }

  virtual absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) = 0;

  // Starts one asynchronous copy of `staged`, which lies in this device's pinned memory, to `offset` in `target`. Both
  // must stay until `done` is called. Requires the range prepared. Copies to disjoint ranges may complete in any order.
  virtual void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) = 0;

  // As CopyToTarget, for a target of another float type: `staged` is cast where the target lies, and lands from byte
  // `offset` of it on. INTERNAL unless `staged` is whole elements and `offset` a multiple of what they become;
  // UNIMPLEMENTED where a device cannot cast.
  virtual void CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset, CopyDone done) {
    done(absl::UnimplementedError(name() + ": this device does not cast"));
  }

  // To be called before the first CastToTarget: takes what memory casting needs of the device, for good, so that it is
  // not found missing in the middle of an update. RESOURCE_EXHAUSTED, with what was asked and what there is.
  virtual absl::Status PrepareToCast() { return absl::OkStatus(); }

  // Copies bytes of the target back into host memory, after every copy into that range has completed.
  virtual absl::Status ReadTarget(Target& target, ByteRange range, char* destination) = 0;

  // The CRC32C of each block of `block_bytes` bytes of the range (the last may be shorter), computed where the bytes
  // lie and from what is there now; after every copy into that range has completed. Requires block_bytes a multiple of
  // kDigestBlockMultiple.
  virtual absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) = 0;

  // Names a target's memory to other processes. They must close it before the target goes. UNIMPLEMENTED where a
  // device's memory cannot be shared; FAILED_PRECONDITION for memory that is another process's already, or none.
  virtual absl::StatusOr<SharedMemory> Export(Target& target) {
    return absl::UnimplementedError(name() + ": this device's memory cannot be shared with other processes");
  }

  // Opens memory that another process owns, as a target that is written in place; closed with the target. The owner
  // must keep the memory until then. INVALID_ARGUMENT, saying what is wrong: a handle of another length or of garbage,
  // another device, a range that leaves the allocation or is empty. UNIMPLEMENTED as above.
  virtual absl::StatusOr<std::unique_ptr<Target>> Open(const SharedMemory& shared) {
    return absl::UnimplementedError(name() + ": this device cannot open other processes' memory");
  }

  // OK, or why this device can no longer be used (sticky).
  virtual absl::Status Health() const = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_DEVICE_H_
