#include "server/commit_hook_http.h"

#include <httplib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tensor/monotonic_clock.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {
namespace {

// Beyond this an answer is no acknowledgement; what is left of it is not read.
constexpr size_t kMostAnswerBytes = 64 << 10;

// A connection to the same host is there at once. While it is being made it cannot be cut.
constexpr absl::Duration kConnectPatience = absl::Seconds(5);

// How often a request is stopped again until it has ended: one that has no connection yet does not hear it.
constexpr absl::Duration kStopAgain = absl::Milliseconds(20);

// "success" of an object that has it and means no.
bool SaysNo(const std::string& answer) {
  const nlohmann::json json = nlohmann::json::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return false;
  const auto success = json.find("success");
  return success != json.end() && success->is_boolean() && !success->get<bool>();
}

class HttpHook final : public CommitHook {
 public:
  explicit HttpHook(const CommitHookOptions& options)
      : host_(options.host), port_(options.port), requests_(options.requests), timeout_(options.timeout) {}

  absl::StatusOr<std::string> Call(const CurrentVersionEvent& event) override {
    const absl::Duration deadline = MonotonicNow() + timeout_;
    std::string answers;
    for (const CommitHookRequest& request : requests_) {
      absl::StatusOr<std::string> answer = Post(request, event, deadline);
      if (!answer.ok()) return answer;
      absl::StrAppend(&answers, answers.empty() ? "" : "; ", *answer);
    }
    return answers;
  }

  void Cut() override {
    absl::MutexLock lock(&mutex_);
    cut_ = true;
    changed_.SignalAll();
  }

 private:
  std::string Where(const CommitHookRequest& request) const {
    return absl::StrCat("POST http://", Authority(), request.path);
  }
  std::string Authority() const {
    const bool v6 = host_.find(':') != std::string::npos;
    return absl::StrCat(v6 ? "[" : "", host_, v6 ? "]:" : ":", port_);
  }

  absl::StatusOr<std::string> Post(const CommitHookRequest& request, const CurrentVersionEvent& event,
                                   absl::Duration deadline) {
    httplib::Client client(host_, port_);
    const absl::Duration left = std::max(deadline - MonotonicNow(), absl::Milliseconds(1));
    client.set_connection_timeout(absl::ToChronoMicroseconds(std::min(left, kConnectPatience)));
    // The deadline is StopAt's; these only must not come first.
    client.set_read_timeout(absl::ToChronoSeconds(left + absl::Seconds(2)));
    client.set_write_timeout(absl::ToChronoSeconds(left + absl::Seconds(2)));
    client.set_decompress(false);
    httplib::Request post;
    post.method = "POST";
    post.path = request.path;
    post.body = request.body.Fill(event);
    post.set_header("Host", Authority());
    if (event.trace.has_value()) post.set_header(kTraceparent, FormatTraceparent(ChildOf(*event.trace)));
    if (!post.body.empty()) post.set_header("Content-Type", "application/json");
    std::string answer;
    post.content_receiver = [&](const char* bytes, size_t count, uint64_t, uint64_t) {
      answer.append(bytes, std::min(count, kMostAnswerBytes - answer.size()));
      return answer.size() < kMostAnswerBytes;
    };
    int status = 0;
    post.response_handler = [&](const httplib::Response& response) {
      status = response.status;
      return true;
    };
    const httplib::Result result = SendUntil(client, post, deadline);
    // The handler is not asked about answers that have no body, such as 204.
    if (result) status = result->status;
    return Outcome(request, status, result.error(), answer);
  }

  // The library's own timeouts are for one read or write; here the whole has an end, and Cut() is heard.
  httplib::Result SendUntil(httplib::Client& client, const httplib::Request& post, absl::Duration deadline) {
    {
      absl::MutexLock lock(&mutex_);
      if (cut_) return httplib::Result(nullptr, httplib::Error::Canceled);
      sent_ = false;
      overdue_ = false;
    }
    std::thread watch([&] { StopAt(client, deadline); });
    httplib::Result result = client.send(post);
    {
      absl::MutexLock lock(&mutex_);
      sent_ = true;
      changed_.SignalAll();
    }
    watch.join();
    return result;
  }

  void StopAt(httplib::Client& client, absl::Duration deadline) {
    const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sent_ || cut_; };
    const auto sent = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sent_; };
    absl::MutexLock lock(&mutex_);
    overdue_ = !changed_.AwaitFor(mutex_, deadline - MonotonicNow(), over);
    while (!sent_) {
      mutex_.Unlock();
      client.stop();
      mutex_.Lock();
      changed_.AwaitFor(mutex_, kStopAgain, sent);
    }
  }

  absl::StatusOr<std::string> Outcome(const CommitHookRequest& request, int status, httplib::Error error,
                                      const std::string& answer) {
    // A long answer was given up half-way, which is an error to the library alone.
    const bool answered = status != 0 && (error == httplib::Error::Success || answer.size() == kMostAnswerBytes);
    if (!answered) {
      absl::MutexLock lock(&mutex_);
      if (cut_) return absl::CancelledError(absl::StrCat(Where(request), ": cut, the server is shutting down"));
      if (overdue_) {
        return absl::DeadlineExceededError(absl::StrCat(
            Where(request), ": no answer within ", absl::FormatDuration(timeout_), " (--on-commit-timeout-seconds)"));
      }
      return absl::UnavailableError(absl::StrCat(Where(request), ": ", httplib::to_string(error),
                                                 " error; does the inference server listen there?"));
    }
    const std::string said = absl::StrCat(status, answer.empty() ? "" : " ", ShortAnswer(answer));
    if (status / 100 != 2 || SaysNo(answer)) {
      return absl::FailedPreconditionError(absl::StrCat(Where(request), ": answered ", said));
    }
    return said;
  }

  const std::string host_;
  const int port_;
  const std::vector<CommitHookRequest> requests_;
  const absl::Duration timeout_;

  absl::Mutex mutex_;
  MonotonicCondVar changed_;
  // Of the request under way.
  bool sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool overdue_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

std::unique_ptr<CommitHook> NewHttpHook(const CommitHookOptions& options) {
  return std::make_unique<HttpHook>(options);
}

}  // namespace weightstream
