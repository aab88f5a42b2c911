#include "server/health.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <utility>
#include <vector>

#include "tensor/text.h"

namespace weightstream {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

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
    HealthCheckResponse response;
    {
      absl::MutexLock lock(&health_.mutex_);
      response.set_status(health_.Find(request_.service()));
    }
    if (response.status() == HealthCheckResponse::SERVICE_UNKNOWN) {
      answer_.FinishWithError(
          grpc::Status(grpc::StatusCode::NOT_FOUND,
                       "no version of model '" + Printable(request_.service()) + "' has ever been current"),
          &finished_);
      return;
    }
    answer_.Finish(response, grpc::Status::OK, &finished_);
  }

  Health& health_;
  // The last to go: the queue may be gone then, and with it the server.
  const Presence presence_{health_};
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncResponseWriter<HealthCheckResponse> answer_{&context_};
  Poller::Event arrived_ = [this](bool ok) { Arrived(ok); };
  Poller::Event finished_ = [this](bool) { delete this; };
};

// One Watch: awaits it, makes room for the next, and has at most one operation under way, whoever started it. It is
// gone once it was finished and gRPC has said so in both ways.
class Health::WatchCall {
 public:
  struct Step {
    enum class Kind { kNothing, kWrite, kFinish } kind = Kind::kNothing;
    Status status = HealthCheckResponse::UNKNOWN;
  };

  explicit WatchCall(Health& health) : health_(health) {
    context_.AsyncNotifyWhenDone(&done_event_);
    health_.service_.RequestWatch(&context_, &request_, &stream_, health_.queue_, health_.queue_, &arrived_event_);
  }

  // Whoever is given a step takes it, with no lock held.
  Step Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(health_.mutex_) {
    if (busy_ || finished_) return {};
    const Status status = health_.Find(request_.service());
    if (status != told_ && !broken_) {
      busy_ = true;
      told_ = status;
      return {Step::Kind::kWrite, status};
    }
    if (!broken_ && !health_.watches_end_) return {};
    busy_ = finished_ = true;
    return {Step::Kind::kFinish};
  }

  void Take(const Step& step) {
    if (step.kind == Step::Kind::kFinish) {
      stream_.Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down"), &operated_event_);
    } else if (step.kind == Step::Kind::kWrite) {
      HealthCheckResponse response;
      response.set_status(step.status);
      stream_.Write(response, &operated_event_);
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
    GoOn([this] { health_.watches_.insert(this); });
  }

  void Operated(bool ok) {
    GoOn([this, ok] {
      busy_ = false;
      broken_ |= !ok;
    });
  }

  // The caller has cancelled, or is gone, or has been told the end.
  void Done() {
    GoOn([this] { broken_ = done_ = true; });
  }

  template <typename Change>
  void GoOn(Change change) {
    Step step;
    bool over = false;
    {
      absl::MutexLock lock(&health_.mutex_);
      change();
      step = Next();
      over = finished_ && !busy_ && done_;
      if (over) health_.watches_.erase(this);
    }
    if (over) {
      delete this;
    } else {
      Take(step);
    }
  }

  Health& health_;
  // The last to go: the queue may be gone then, and with it the server.
  const Presence presence_{health_};
  grpc::ServerContext context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncWriter<HealthCheckResponse> stream_{&context_};
  Poller::Event arrived_event_ = [this](bool ok) { Arrived(ok); };
  Poller::Event operated_event_ = [this](bool ok) { Operated(ok); };
  Poller::Event done_event_ = [this](bool) { Done(); };

  // All under the mutex.
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
  TellWatches();
}

void Health::StopServing() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    for (auto& [name, status] : statuses_) status = HealthCheckResponse::NOT_SERVING;
  }
  TellWatches();
}

void Health::EndWatches() {
  {
    absl::MutexLock lock(&mutex_);
    watches_end_ = true;
  }
  TellWatches();
}

void Health::AwaitEnd() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](int* calls) { return *calls == 0; }, &calls_));
}

void Health::TellWatches() {
  std::vector<std::pair<WatchCall*, WatchCall::Step>> steps;
  {
    absl::MutexLock lock(&mutex_);
    for (WatchCall* watch : watches_) steps.emplace_back(watch, watch->Next());
  }
  // Who has a step to take is there until it is taken.
  for (const auto& [watch, step] : steps) {
    if (step.kind != WatchCall::Step::Kind::kNothing) watch->Take(step);
  }
}

}  // namespace weightstream
