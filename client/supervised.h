// Runs blocking work on a second thread, so that the calling one can look after it.
#ifndef WEIGHTSTREAM_CLIENT_SUPERVISED_H_
#define WEIGHTSTREAM_CLIENT_SUPERVISED_H_

#include <functional>

#include "absl/status/status.h"
#include "client/stall_watch.h"
#include "client/stop_signal.h"

namespace weightstream {

// Returns once `work` has. Meanwhile, some twenty times a second and from the calling thread: checks `watch`, asks
// `cancelled` (where given) and, if it says true, stops `stop` with CANCELLED, and calls `tick`; `tick` once more at
// the end. `work` must end soon after the stop. RESOURCE_EXHAUSTED, and nothing has
// happened, where no thread could be started.
absl::Status RunSupervised(const std::function<void()>& work, StopSignal& stop, StallWatch& watch,
                           const std::function<bool()>& cancelled, const std::function<void()>& tick);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_SUPERVISED_H_
