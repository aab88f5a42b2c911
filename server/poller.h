// The one thread of a server that waits for all of its connections, and steps aside for those that serve streams.
//
// With gRPC's poll engine (process/grpc_tuning.h) a thread that awaits a message of its stream also waits for the
// stream's connection, and reads it: what comes is in its core's cache, and nobody has to be woken. But a connection is
// read by one thread at a time, whoever waits for it first. gRPC's own pollers wait all the time, so they come first
// each time that a stream's thread is busy with a message; from then on they read what is the stream's, and wake its
// thread for it: five switches of threads a MiB. Hence no pollers of gRPC's own here (its synchronous servers start
// none when the application brings a queue that it polls often), but this one: while messages come on streams, it
// only takes a short look now and then.
#ifndef WEIGHTSTREAM_SERVER_POLLER_H_
#define WEIGHTSTREAM_SERVER_POLLER_H_

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "absl/time/time.h"

namespace weightstream {

// Thread-safe but for Start and Stop.
class Poller {
 public:
  // What a tag of an operation on the queue points to. Runs on the poller's thread, which serves everybody: it must not
  // wait. `ok` is the queue's. It may destroy itself.
  using Event = std::function<void(bool ok)>;

  Poller() = default;
  ~Poller() { Stop(); }
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // `queue` is of a server's builder, and the server is built right after.
  void Start(std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // Deals with the events that are left. Once gRPC's server has shut down, and before it is destroyed: events refer to
  // it. Idempotent.
  void Stop();

  // A stream has moved a message: its thread is at work on its connection. Some nanoseconds, or a wake-up. Not after
  // Stop.
  void StreamMoved() {
    moved_.store(true);
    if (waits_.load() && waits_.exchange(false)) Wake();
  }

 private:
  void Run();
  // Waits only where streams are idle; TIMEOUT where they are not, and nothing else is there to be done.
  grpc::CompletionQueue::NextStatus Next(void** tag, bool* ok);
  void Wake();

  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::thread thread_;
  std::atomic<bool> moved_{false};
  // Set by the thread before it waits, unless a wake-up is on its way; a stream that clears it sends one.
  std::atomic<bool> waits_{false};
  grpc::Alarm wake_;

  // The thread's own.
  Event woken_ = [this](bool) { wake_pending_ = false; };
  bool wake_pending_ = false;
  bool streams_idle_ = true;
  int still_looks_ = 0;
  // Since the last pause.
  int events_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_POLLER_H_
