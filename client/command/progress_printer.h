// Shows a ProgressBar on a stream while work runs: redrawn in place on a terminal, a line now and then elsewhere.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_PRINTER_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_PRINTER_H_

#include <cstdio>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/command/live_block.h"
#include "client/command/progress_bar.h"
#include "client/command/ticker.h"

namespace weightstream::command {

// Redraws by a ticker, so that waiting shows too, when no news come. Thread-safe. Finish (or destruction) wipes the
// bars.
class ProgressPrinter {
 public:
  struct Options {
    bool terminal = false;
    absl::Duration redraw_interval = absl::Milliseconds(100);
    absl::Duration line_interval = absl::Seconds(5);
  };

  // Whether `stream` is a terminal that can redraw, with the usual intervals.
  static Options OptionsFor(FILE* stream);

  // `stream` must outlive the printer.
  ProgressPrinter(FILE* stream, std::vector<std::string> servers, Options options);
  ~ProgressPrinter() { Finish(); }
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  void Update(absl::string_view server, const TransferState& state) ABSL_LOCKS_EXCLUDED(mutex_);

  // Nothing is shown any more once it has returned. May be called twice.
  void Finish() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Show() ABSL_LOCKS_EXCLUDED(mutex_);
  void Say(const std::vector<std::string>& lines) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FILE* const stream_;
  const Options options_;
  // Held while writing to the stream: bars and notices must not mix, and nobody waits for it but news.
  absl::Mutex mutex_;
  LiveBlock block_ ABSL_GUARDED_BY(mutex_);
  ProgressBar bar_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  Ticker ticker_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_PRINTER_H_
