#include "client/command/progress_printer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

// A stream whose text can be read back.
class Capture {
 public:
  Capture() : stream_(std::tmpfile()) {}
  ~Capture() { std::fclose(stream_); }

  FILE* stream() { return stream_; }

  // Through a descriptor of its own position: the printer's thread may be writing.
  std::string Text() const {
    std::string text(1 << 16, '\0');
    const ssize_t bytes = pread(fileno(stream_), text.data(), text.size(), 0);
    text.resize(std::max<ssize_t>(bytes, 0));
    return text;
  }

  bool Shows(absl::string_view part) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (!absl::StrContains(Text(), part)) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(1));  // lint-allow(no-sleep): the pause of a poll with a deadline.
    }
    return true;
  }

 private:
  FILE* const stream_;
};

ProgressPrinter::Options Fast(bool terminal) {
  return {.terminal = terminal, .redraw_interval = absl::Milliseconds(1), .line_interval = absl::Milliseconds(1)};
}

const TransferState kHalf = {.phase = "sending", .version = 3, .done_bytes = 512, .total_bytes = 1024};

TEST(ProgressPrinterTest, ALogGetsThePhaseAtOnceAndLinesNowAndThen) {
  Capture capture;
  ProgressPrinter printer(capture.stream(), {"a:1"}, Fast(false));
  printer.Update("a:1", kHalf);
  EXPECT_TRUE(capture.Shows("a:1: sending (version 3)\n"));
  EXPECT_TRUE(capture.Shows("a:1: sending (version 3), 50.0 % of 1.0 KiB"));
  printer.Finish();
  EXPECT_FALSE(absl::StrContains(capture.Text(), "\x1b")) << capture.Text();
}

TEST(ProgressPrinterTest, ATerminalIsRedrawnInPlaceAndLeftClean) {
  Capture capture;
  ProgressPrinter printer(capture.stream(), {"a:1", "b:1"}, Fast(true));
  printer.Update("a:1", kHalf);
  EXPECT_TRUE(capture.Shows("\x1b[2A\r"));
  EXPECT_TRUE(capture.Shows("50.0 %"));
  printer.Finish();
  EXPECT_TRUE(absl::EndsWith(capture.Text(), "\x1b[2A\r\x1b[J")) << capture.Text();
}

TEST(ProgressPrinterTest, ANoticeOnATerminalStaysAboveTheBars) {
  Capture capture;
  ProgressPrinter printer(capture.stream(), {"a:1"}, Fast(true));
  ASSERT_TRUE(capture.Shows("\x1b[K\n"));
  TransferState state = kHalf;
  state.retries = 1;
  printer.Update("a:1", state);
  EXPECT_TRUE(capture.Shows("\x1b[1A\r\x1b[Ja:1: out of reach, trying again (retry 1)\n"));
  // The bars come back below it, not over it.
  EXPECT_TRUE(capture.Shows("(retry 1)\na:1  sending"));
}

TEST(ProgressPrinterTest, NothingIsShownAfterFinish) {
  Capture capture;
  ProgressPrinter printer(capture.stream(), {"a:1"}, Fast(false));
  printer.Finish();
  const std::string before = capture.Text();
  printer.Update("a:1", kHalf);
  printer.Finish();
  EXPECT_EQ(capture.Text(), before);
}

TEST(ProgressPrinterTest, AFileIsNoTerminal) {
  Capture capture;
  EXPECT_FALSE(ProgressPrinter::OptionsFor(capture.stream()).terminal);
}

}  // namespace
}  // namespace weightstream::command
