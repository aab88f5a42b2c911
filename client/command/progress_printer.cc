#include "client/command/progress_printer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace weightstream::command {

ProgressPrinter::Options ProgressPrinter::OptionsFor(FILE* stream) {
  Options options;
  options.terminal = LiveBlock::CanRedraw(stream);
  return options;
}

ProgressPrinter::ProgressPrinter(FILE* stream, std::vector<std::string> servers, Options options)
    : stream_(stream),
      options_(options),
      block_(stream),
      bar_(std::move(servers)),
      ticker_(options.terminal ? options.redraw_interval : options.line_interval, [this] { Show(); }) {}

void ProgressPrinter::Update(absl::string_view server, const TransferState& state) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  const ProgressBar::News news = bar_.Update(server, state, absl::Now());
  if (!options_.terminal) Say(news.phases);
  Say(news.notices);
}

void ProgressPrinter::Finish() {
  ticker_.Stop();
  absl::MutexLock lock(&mutex_);
  finished_ = true;
  block_.Wipe();
  std::fflush(stream_);
}

void ProgressPrinter::Show() {
  absl::MutexLock lock(&mutex_);
  if (options_.terminal) {
    block_.Draw(bar_.Bars(LiveBlock::SizeOf(stream_).columns, absl::Now()));
  } else {
    Say(bar_.Lines(absl::Now()));
  }
}

void ProgressPrinter::Say(const std::vector<std::string>& lines) {
  if (!lines.empty()) block_.Say(absl::StrCat(absl::StrJoin(lines, "\n"), "\n"));
}

}  // namespace weightstream::command
