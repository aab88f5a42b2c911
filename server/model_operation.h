// How an operation takes a model for itself: private to model*.cc.
#ifndef WEIGHTSTREAM_SERVER_MODEL_OPERATION_H_
#define WEIGHTSTREAM_SERVER_MODEL_OPERATION_H_

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/model.h"

namespace weightstream {

// Calls of a model that wait for their turn. A sender has one under way; of those that race for a model few are left
// after their first. Each holds a thread, which one model's calls must not take from all others.
inline constexpr int kMostWaiting = 16;

// Whose operation it is. What ends something (an update, a registration) always waits: nobody else would end it.
enum class OperationOf { kCaller, kServer };

// Takes the model for the time of one operation. status() says whether it got it.
class Model::Operation {
 public:
  Operation(Model& model, absl::string_view name, OperationOf whose = OperationOf::kServer) : model_(model) {
    absl::MutexLock lock(&model_.mutex_);
    if (whose == OperationOf::kCaller && model_.waiting_ >= kMostWaiting) {
      status_ =
          absl::UnavailableError(absl::StrCat("model '", model_.name_, "' is busy with a ", model_.operation_, ", and ",
                                              model_.waiting_, " other calls wait for it already; try again later"));
      return;
    }
    ++model_.waiting_;
    const absl::Cleanup no_more = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(model_.mutex_) { --model_.waiting_; };
    const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(model_.mutex_) { return model_.operation_.empty(); };
    if (!model_.changed_.AwaitFor(model_.mutex_, model_.context_.limits->operation_wait, free)) {
      status_ = absl::UnavailableError(
          absl::StrCat("model '", model_.name_, "' is busy with a ", model_.operation_, " for more than ",
                       absl::FormatDuration(model_.context_.limits->operation_wait), "; try again later"));
      return;
    }
    model_.operation_ = name;
  }

  ~Operation() {
    if (!status_.ok()) return;
    absl::MutexLock lock(&model_.mutex_);
    model_.operation_ = {};
    model_.changed_.SignalAll();
  }

  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const absl::Status& status() const { return status_; }

 private:
  Model& model_;
  absl::Status status_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_OPERATION_H_
