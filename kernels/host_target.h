// The target of the host device: the part of a file that holds a version's data, mapped into memory.
#ifndef WEIGHTSTREAM_KERNELS_HOST_TARGET_H_
#define WEIGHTSTREAM_KERNELS_HOST_TARGET_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device.h"
#include "kernels/extent_gate.h"
#include "kernels/file_mapping.h"
#include "kernels/host_device.h"

namespace weightstream {

// Thread-safe. Needs no device to live.
class HostTarget : public Target {
 public:
  // See Device::CreateTarget for what `spec` must be, and host_device.h for the errors.
  static absl::StatusOr<std::unique_ptr<HostTarget>> Create(const TargetSpec& spec, const HostDeviceOptions& options);

  ~HostTarget() override;

  uint64_t bytes() const override { return spec_.bytes; }
  absl::Status Prepare(ByteRange range) override;
  uint64_t prepared_bytes() const override { return prepared_bytes_.load(std::memory_order_relaxed); }
  bool slow_to_prepare() const override { return mapping_ != nullptr && mapping_->on_tmpfs(); }
  char* host_data() override;
  absl::Status Sync() override;

  // Copies into the target. INTERNAL, with nothing written, if the range was not prepared or leaves the target: that is
  // a mistake of the program above, and a store into an unprepared page could end the process.
  absl::Status Write(absl::string_view bytes, uint64_t offset);

  // Copies out of the target. Bytes that were never written are zero.
  absl::Status Read(ByteRange range, char* destination) const;

  // See Device::DigestTarget.
  absl::StatusOr<std::vector<uint32_t>> Digest(ByteRange range, uint64_t block_bytes) const;

 private:
  // Extents in file coordinates, [first, end).
  struct Extents {
    uint64_t first;
    uint64_t end;
  };

  HostTarget(TargetSpec spec, const HostDeviceOptions& options, int fd, HostRoom::Part room);

  absl::Status CheckInside(ByteRange range, absl::string_view action) const;
  // Counted from the target's first one. Requires a non-empty range inside the target.
  Extents ExtentsOf(ByteRange range) const;
  absl::Status PrepareExtent(uint64_t extent);
  ByteRange InFile(ByteRange range) const;

  const TargetSpec spec_;
  const bool expose_memory_;
  const FallocateFunction fallocate_;
  const int fd_;
  // Of the memory that the device has, where it keeps no files.
  const HostRoom::Part room_;
  // Null where the target has no bytes.
  std::unique_ptr<FileMapping> mapping_;
  ExtentGate gate_;
  std::atomic<uint64_t> prepared_bytes_{0};
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_HOST_TARGET_H_
