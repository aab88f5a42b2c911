#include "client/command/progress_printer.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace weightstream::command {
namespace {

constexpr size_t kUsualColumns = 80;

// Asked at each redraw: people resize their windows.
size_t TerminalColumns(FILE* stream) {
  winsize size = {};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualColumns;
  return size.ws_col;
}

}  // namespace

ProgressPrinter::Options ProgressPrinter::OptionsFor(FILE* stream) {
  Options options;
  const char* kind = std::getenv("TERM");
  options.terminal = isatty(fileno(stream)) == 1 && kind != nullptr && absl::string_view(kind) != "dumb";
  return options;
}

ProgressPrinter::ProgressPrinter(FILE* stream, std::vector<std::string> servers, Options options)
    : stream_(stream), options_(options), bar_(std::move(servers)), thread_([this] { Run(); }) {}

void ProgressPrinter::Update(absl::string_view server, const TransferState& state) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  const ProgressBar::News news = bar_.Update(server, state, absl::Now());
  if (!options_.terminal) Say(news.phases);
  Say(news.notices);
}

void ProgressPrinter::Finish() {
  {
    absl::MutexLock lock(&mutex_);
    finished_ = true;
  }
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mutex_);
  Wipe();
  std::fflush(stream_);
}

void ProgressPrinter::Run() {
  const absl::Duration interval = options_.terminal ? options_.redraw_interval : options_.line_interval;
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&finished_), interval)) {
    if (options_.terminal) {
      Redraw(absl::Now());
    } else {
      Say(bar_.Lines(absl::Now()));
    }
  }
}

void ProgressPrinter::Redraw(absl::Time now) {
  const std::vector<std::string> lines = bar_.Bars(TerminalColumns(stream_), now);
  // Over the old lines in one write, each cleared behind its end: wiping first would flicker.
  std::string text = drawn_lines_ == 0 ? "" : absl::StrCat("\x1b[", drawn_lines_, "A\r");
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\x1b[K\n");
  std::fwrite(text.data(), 1, text.size(), stream_);
  std::fflush(stream_);
  drawn_lines_ = lines.size();
}

void ProgressPrinter::Wipe() {
  if (drawn_lines_ == 0) return;
  std::fprintf(stream_, "\x1b[%zuA\r\x1b[J", drawn_lines_);
  drawn_lines_ = 0;
}

void ProgressPrinter::Say(const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  Wipe();
  for (const std::string& line : lines) std::fprintf(stream_, "%s\n", line.c_str());
  std::fflush(stream_);
}

}  // namespace weightstream::command
