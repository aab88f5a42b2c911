// Shows a WatchView on a terminal while a watch runs: redrawn in place, with what happened scrolling away above it.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_WATCH_SCREEN_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_WATCH_SCREEN_H_

#include <cstdio>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/command/live_block.h"
#include "client/command/ticker.h"
#include "client/command/watch_events.h"
#include "client/command/watch_view.h"

namespace weightstream::command {

// Redraws by a ticker, so that rates fall and times pass when no news come. Thread-safe.
class WatchScreen {
 public:
  // `stream`, a terminal that can redraw, must outlive the screen.
  WatchScreen(FILE* stream, const std::vector<std::string>& servers, const std::string& model);
  // As Finish.
  ~WatchScreen() { Finish(); }
  WatchScreen(const WatchScreen&) = delete;
  WatchScreen& operator=(const WatchScreen&) = delete;

  // False once the terminal takes nothing any more.
  bool Show(const WatchEvent& event) ABSL_LOCKS_EXCLUDED(mutex_);

  // Wipes what is redrawn; what happened stays. May be called twice.
  void Finish() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Draw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FILE* const stream_;
  const bool with_server_;
  // Held while writing to the terminal: nobody waits for it but news.
  absl::Mutex mutex_;
  LiveBlock block_ ABSL_GUARDED_BY(mutex_);
  WatchView view_ ABSL_GUARDED_BY(mutex_);
  bool works_ ABSL_GUARDED_BY(mutex_) = true;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  Ticker ticker_;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_WATCH_SCREEN_H_
