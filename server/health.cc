#include "server/health.h"

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/byte_buffer.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/text.h"

namespace weightstream {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

// Anybody may ask, on the thread that waits for everybody, and a watch keeps its name: models' names are shorter.
constexpr size_t kMostRequestBytes = 1024;

grpc::Status ReadName(grpc::ByteBuffer& message, std::string& name) {
  if (message.Length() > kMostRequestBytes) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            absl::StrCat("a health request of ", message.Length(), " bytes; at most ", kMostRequestBytes,
                         " are read, enough for any model's name")};
  }
  HealthCheckRequest request;
  const grpc::Status read = grpc::SerializationTraits<HealthCheckRequest>::Deserialize(&message, &request);
  if (!read.ok()) return {grpc::StatusCode::INVALID_ARGUMENT, "this is no grpc.health.v1.HealthCheckRequest"};
  name = request.service();
  return grpc::Status::OK;
}

grpc::ByteBuffer Encode(HealthCheckResponse::ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

// What each call has of the service: it counts.
class Health::Presence {
 public:
  explicit Presence(Health& health) : health_(health) {
    absl::MutexLock lock(&health_.mutex_);
    ++health_.calls_;
  }
  ~Presence() {
    absl::MutexLock lock(&health_.mutex_);
    --health_.calls_;
  }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

 private:
  Health& health_;
};

// Calls belong to themselves: each is made by the one before it, and deletes itself once gRPC has nothing more to say
// of it.
//
// One Check: awaits it, makes room for the next, answers, and is gone.
class Health::CheckCall {
 public:
  explicit CheckCall(Health& health) : health_(health) {
    health_.service_.RequestCheck(&context_, &request_, &answer_, health_.queue_, health_.queue_, &arrived_);
  }

 private:
  void Arrived(bool ok) {
    if (!ok) {
      // The server shuts down.
      delete this;
      return;
    }
    new CheckCall(health_);
    std::string name;
    grpc::Status outcome = ReadName(request_, name);
    Status status = HealthCheckResponse::UNKNOWN;
    if (outcome.ok()) {
      absl::MutexLock lock(&health_.mutex_);
      status = health_.Find(name);
    }
    if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
      outcome = {grpc::StatusCode::NOT_FOUND,
                 absl::StrCat("no version of model '", Printable(name), "' has ever been current")};
    }
    if (outcome.ok()) {
      answer_.Finish(Encode(status), outcome, &finished_);
    } else {
      answer_.FinishWithError(outcome, &finished_);
    }
  }

  Health& health_;
  // The last to go: the queue may be gone then, and with it the server.
  const Presence presence_{health_};
  grpc::ServerContext context_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> answer_{&context_};
  Poller::Event arrived_ = [this](bool ok) { Arrived(ok); };
  Poller::Event finished_ = [this](bool) { delete this; };
};

// One Watch: awaits it, makes room for the next, and has at most one operation under way. It is gone once it was
// finished and gRPC has said so in both ways. All of it is on the poller's thread.
class Health::WatchCall {
 public:
  explicit WatchCall(Health& health) : health_(health) {
    context_.AsyncNotifyWhenDone(&done_event_);
    health_.service_.RequestWatch(&context_, &request_, &stream_, health_.queue_, health_.queue_, &arrived_event_);
  }

  // Says what it has not said yet, or ends.
  void GoOn() {
    if (busy_) return;
    if (finished_) {
      if (!done_) return;
      health_.watches_.erase(this);
      delete this;
      return;
    }
    Status status = HealthCheckResponse::UNKNOWN;
    bool ends = false;
    {
      absl::MutexLock lock(&health_.mutex_);
      status = health_.Find(name_);
      ends = health_.watches_end_;
    }
    if (status != told_ && !broken_) {
      busy_ = true;
      told_ = status;
      stream_.Write(Encode(status), &operated_event_);
    } else if (broken_ || ends) {
      busy_ = finished_ = true;
      stream_.Finish(end_, &operated_event_);
    }
  }

 private:
  void Arrived(bool ok) {
    if (!ok) {
      // The server shuts down. A call that never was is not reported as done.
      delete this;
      return;
    }
    new WatchCall(health_);
    health_.watches_.insert(this);
    if (const grpc::Status read = ReadName(request_, name_); !read.ok()) {
      broken_ = true;
      end_ = read;
    }
    request_.Clear();
    GoOn();
  }

  void Operated(bool ok) {
    busy_ = false;
    broken_ |= !ok;
    GoOn();
  }

  // The caller has cancelled, or is gone, or has been told the end.
  void Done() {
    broken_ = done_ = true;
    GoOn();
  }

  Health& health_;
  // The last to go: the queue may be gone then, and with it the server.
  const Presence presence_{health_};
  grpc::ServerContext context_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> stream_{&context_};
  Poller::Event arrived_event_ = [this](bool ok) { Arrived(ok); };
  Poller::Event operated_event_ = [this](bool ok) { Operated(ok); };
  Poller::Event done_event_ = [this](bool) { Done(); };

  std::string name_;
  // What it is finished with.
  grpc::Status end_{grpc::StatusCode::UNAVAILABLE, "the server is shutting down"};
  bool busy_ = false;
  bool broken_ = false;
  bool finished_ = false;
  bool done_ = false;
  Status told_ = HealthCheckResponse::UNKNOWN;
};

void Health::Start(grpc::ServerCompletionQueue& queue) {
  queue_ = &queue;
  new CheckCall(*this);
  new WatchCall(*this);
  absl::MutexLock lock(&mutex_);
  started_ = true;
}

Health::Status Health::Find(const std::string& name) const {
  const auto found = statuses_.find(name);
  return found == statuses_.end() ? HealthCheckResponse::SERVICE_UNKNOWN : found->second;
}

void Health::Set(const std::string& name, bool serving) {
  {
    absl::MutexLock lock(&mutex_);
    statuses_[name] = serving && !stopped_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }
  Tell();
}

void Health::StopServing() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    for (auto& [name, status] : statuses_) status = HealthCheckResponse::NOT_SERVING;
  }
  Tell();
}

void Health::EndWatches() {
  {
    absl::MutexLock lock(&mutex_);
    watches_end_ = true;
  }
  Tell();
}

void Health::AwaitEnd() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](Health* health)
           ABSL_EXCLUSIVE_LOCKS_REQUIRED(health->mutex_) { return health->calls_ == 0 && !health->tell_pending_; },
      this));
}

void Health::Tell() {
  {
    absl::MutexLock lock(&mutex_);
    if (!started_ || std::exchange(tell_pending_, true)) return;
  }
  tell_.Set(queue_, gpr_inf_past(GPR_CLOCK_MONOTONIC), &tell_event_);
}

void Health::TellNow() {
  // A watch that is over has gone by itself: none goes here.
  for (WatchCall* watch : watches_) watch->GoOn();
}

}  // namespace weightstream
