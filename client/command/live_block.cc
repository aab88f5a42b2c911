#include "client/command/live_block.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace weightstream::command {

bool LiveBlock::CanRedraw(FILE* stream) {
  const char* const kind = std::getenv("TERM");
  return isatty(fileno(stream)) == 1 && kind != nullptr && absl::string_view(kind) != "dumb";
}

LiveBlock::Size LiveBlock::SizeOf(FILE* stream) {
  Size size;
  winsize window = {};
  if (ioctl(fileno(stream), TIOCGWINSZ, &window) != 0) return size;
  if (window.ws_col > 0) size.columns = window.ws_col;
  if (window.ws_row > 0) size.rows = window.ws_row;
  return size;
}

bool LiveBlock::Draw(const std::vector<std::string>& lines) {
  // Over the old lines in one write, each cleared behind its end: wiping first would flicker.
  std::string text = drawn_lines_ == 0 ? "" : absl::StrCat("\x1b[", drawn_lines_, "A\r");
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\x1b[K\n");
  // Old lines that the new ones do not reach.
  if (lines.size() < drawn_lines_) absl::StrAppend(&text, "\x1b[J");
  const bool written = std::fwrite(text.data(), 1, text.size(), stream_) == text.size() && std::fflush(stream_) == 0;
  drawn_lines_ = lines.size();
  return written;
}

bool LiveBlock::Say(const std::string& text) {
  Wipe();
  return std::fwrite(text.data(), 1, text.size(), stream_) == text.size() && std::fflush(stream_) == 0;
}

void LiveBlock::Wipe() {
  if (drawn_lines_ == 0) return;
  std::fprintf(stream_, "\x1b[%zuA\r\x1b[J", drawn_lines_);
  drawn_lines_ = 0;
}

}  // namespace weightstream::command
