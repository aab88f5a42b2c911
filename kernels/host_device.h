// Device over host memory: a target is a shared mapping of a file, so that what lands is in the file. Or, for tests of
// what is built on devices that have memory alone, a mapping of a file without a name, which goes with the target.
//
// CreateTarget: NOT_FOUND for a missing file; INVALID_ARGUMENT for a folder, a symbolic link or whatever else is not a
// regular file, for a start that is not a multiple of 4096, for a size that no file can have; PERMISSION_DENIED;
// RESOURCE_EXHAUSTED over a file size limit or without address space. A target without bytes has no memory: its
// host_data() is null. A file keeps the bytes that it already holds.
//
// A process that runs under a file size limit (RLIMIT_FSIZE) should ignore SIGXFSZ; the limit is then
// RESOURCE_EXHAUSTED.
#ifndef WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_
#define WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "kernels/device.h"
#include "kernels/file_space.h"
#include "kernels/host_room.h"

namespace weightstream {

struct HostDeviceOptions {
  // Behave like a GPU: needs_staging(), host_data() null, copies done later, in batches out of order, by a thread of
  // the device's own. So the pipeline that a GPU will use runs, and is tested, on any machine.
  bool device_like = false;
  // Has memory alone, as a GPU does: targets have no path, go for good when they are destroyed, and have this room
  // together. Null: targets are parts of files.
  std::shared_ptr<HostRoom> memory = nullptr;
  // How long a device-like copy takes at least.
  absl::Duration copy_latency = absl::ZeroDuration();
  // Decides the order in which a batch of device-like copies is done: the same for the same seed.
  uint64_t shuffle_seed = 1;
  // Back targets on tmpfs with huge pages as they are prepared, where the kernel has any to give. Faster to touch first
  // if memory is at hand, slower in a virtual machine whose host takes free memory back; file_mapping.h has both
  // figures. Measure with host_device_benchmark and with pauses before turning it on.
  bool huge_pages = false;
  // What Prepare allocates blocks with; fallocate(2) if empty.
  FallocateFunction fallocate = {};
};

// A full disk or tmpfs shows in Target::Prepare, which allocates the file's blocks ahead of the writes, one extent of
// kHostTargetExtentBytes at a time: a store into the mapping can then never raise SIGBUS for want of room.
// The size is a compromise, not a measured optimum: the first chunk in an extent waits for the whole of it, about 2 ms
// at the 0.5 s that 1 GiB took to prepare on two quiet cores, and several times that under load.
inline constexpr uint64_t kHostTargetExtentBytes = 4 << 20;

// Waits, on destruction, for the copies that are under way.
std::unique_ptr<Device> NewHostDevice(HostDeviceOptions options = {});

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_
