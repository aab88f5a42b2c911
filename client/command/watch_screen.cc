#include "client/command/watch_screen.h"

#include "absl/time/clock.h"

namespace weightstream::command {
namespace {

// Quick enough for an eye, and a few kilobytes a second for a terminal far away.
constexpr absl::Duration kRedrawInterval = absl::Milliseconds(200);

}  // namespace

WatchScreen::WatchScreen(FILE* stream, const std::vector<std::string>& servers, const std::string& model)
    : stream_(stream),
      with_server_(servers.size() > 1),
      block_(stream),
      view_(servers, model),
      ticker_(kRedrawInterval, [this] {
        absl::MutexLock lock(&mutex_);
        Draw();
      }) {}

bool WatchScreen::Show(const WatchEvent& event) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return works_;
  if (view_.Take(event)) {
    works_ = block_.Say(WatchEventBrief(event, with_server_)) && works_;
    Draw();
  }
  return works_;
}

void WatchScreen::Draw() {
  const LiveBlock::Size size = LiveBlock::SizeOf(stream_);
  works_ = block_.Draw(view_.Lines(size.columns, size.rows, absl::Now())) && works_;
}

void WatchScreen::Finish() {
  ticker_.Stop();
  absl::MutexLock lock(&mutex_);
  finished_ = true;
  block_.Wipe();
  std::fflush(stream_);
}

}  // namespace weightstream::command
