// Updates for tests that need no server: over memory, or over a device with a file as the model store makes it.
#ifndef WEIGHTSTREAM_SERVER_TEST_UPDATE_H_
#define WEIGHTSTREAM_SERVER_TEST_UPDATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "kernels/device.h"
#include "server/update.h"
#include "tensor/spec.h"

namespace weightstream {

// Bytes that look random and are the same for the same seed: a byte in the wrong place shows.
std::string PatternBytes(uint64_t seed, uint64_t size);

// A U8 vector of this many bytes.
TensorSpec ByteTensor(absl::string_view name, uint64_t bytes);

// An update "u1" of model "m" to version 1, over plain memory.
std::shared_ptr<Update> MemoryUpdate(const std::vector<TensorSpec>& tensors, uint64_t bucket_limit_bytes = 1 << 20);

// The same, over a target of `device` in a new file. Null, with a failure of the test, if the device has none to give.
std::shared_ptr<Update> DeviceUpdate(Device& device, const std::vector<TensorSpec>& tensors,
                                     uint64_t bucket_limit_bytes = 1 << 20);

// Writes PatternBytes(seed) over all that is missing of an update whose target the processor reaches, as landed bytes.
void FillUpdate(Update& update, uint64_t seed);

// Waits for a condition of another thread's making, at most half a minute. False if it did not come true.
bool WaitFor(const std::function<bool()>& condition);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_UPDATE_H_
