#include "client/supervised.h"

#include <atomic>
#include <thread>

#include "client/defaults.h"
#include "client/start_thread.h"
#include "client/wakeup.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

absl::Status RunSupervised(const std::function<void()>& work, StopSignal& stop, StallWatch& watch,
                           const std::function<bool()>& cancelled, const std::function<void()>& tick) {
  std::atomic<bool> done = false;
  Wakeup wakeup;
  std::thread worker;
  const absl::Status started = StartThread(worker, [&] {
    work();
    done.store(true);
    wakeup.Notify();
  });
  if (!started.ok()) return started;
  while (!done.load()) {
    watch.Check(MonotonicNow());
    if (cancelled != nullptr && !stop.stopped() && cancelled()) {
      stop.Stop(absl::CancelledError("cancelled by the caller"));
    }
    tick();
    wakeup.WaitFor(kSupervisionInterval);
  }
  worker.join();
  tick();
  return absl::OkStatus();
}

}  // namespace weightstream
