// Device over host memory: a target is a shared mapping of a file, so that what lands is in the file.
#ifndef WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_
#define WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_

#include <memory>

#include "absl/time/time.h"
#include "kernels/device.h"

namespace weightstream {

struct HostDeviceOptions {
  // Behave like a GPU: needs_staging(), host_data() null, copies done later, in batches out of order, by a thread of the
  // device's own. So the pipeline that a GPU will use runs, and is tested, on any machine.
  bool device_like = false;
  // How long a device-like copy takes at least.
  absl::Duration copy_latency = absl::ZeroDuration();
};

// A full disk or tmpfs shows in Target::Prepare, which allocates the file's blocks ahead of the writes, one extent of
// kHostTargetExtentBytes at a time: a store into the mapping can then never raise SIGBUS for want of room.
inline constexpr uint64_t kHostTargetExtentBytes = 32 << 20;

std::unique_ptr<Device> NewHostDevice(HostDeviceOptions options = {});

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_HOST_DEVICE_H_
