// grpc.health.v1 for this server: whether it, and each of its models, can be relied on.
//
// gRPC has such a service built in, but it comes with threads (two, on up to five cores) that wait for all connections
// of the server, and so stand between each connection and the thread that serves its stream (server/poller.h). Here the
// poller's thread answers, and a watch takes no thread either.
#ifndef WEIGHTSTREAM_SERVER_HEALTH_H_
#define WEIGHTSTREAM_SERVER_HEALTH_H_

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <map>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/poller.h"

namespace weightstream {

// Raw, so that a request's size is looked at before the request is.
using RawHealth = grpc::health::v1::Health::WithRawMethod_Check<
    grpc::health::v1::Health::WithRawMethod_Watch<grpc::health::v1::Health::Service>>;

// Thread-safe. Outlives the server's queue.
class Health {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // The server as a whole, "", is SERVING; nothing else is known.
  Health() = default;
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  // To be registered with the server's builder.
  grpc::Service* service() { return &service_; }
  // Once the server has started. `queue` is the poller's.
  void Start(grpc::ServerCompletionQueue& queue);

  // Watches are told on the poller's thread, and so are the two below.
  void Set(const std::string& name, bool serving) ABSL_LOCKS_EXCLUDED(mutex_);
  // All that is known is NOT_SERVING from now on, and stays so.
  void StopServing() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the watches: a server that shuts down waits for its calls.
  void EndWatches() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits for the last call to be gone, once gRPC's server has shut down: the poller may stop then.
  void AwaitEnd() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Presence;
  class CheckCall;
  class WatchCall;

  // Has each watch say what it has not said yet, soon.
  void Tell() ABSL_LOCKS_EXCLUDED(mutex_);
  void TellNow();
  Status Find(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  RawHealth service_;
  grpc::ServerCompletionQueue* queue_ = nullptr;
  // The poller's thread's own.
  std::set<WatchCall*> watches_;

  mutable absl::Mutex mutex_;
  std::map<std::string, Status> statuses_ ABSL_GUARDED_BY(mutex_) = {
      {"", grpc::health::v1::HealthCheckResponse::SERVING}};
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool watches_end_ ABSL_GUARDED_BY(mutex_) = false;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  // The alarm is set, and its event has not been dealt with.
  bool tell_pending_ ABSL_GUARDED_BY(mutex_) = false;
  // Awaited or under way.
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;

  grpc::Alarm tell_;
  Poller::Event tell_event_ = [this](bool) {
    {
      absl::MutexLock lock(&mutex_);
      tell_pending_ = false;
    }
    TellNow();
  };
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_HEALTH_H_
