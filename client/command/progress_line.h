// Lays out progress for a terminal: one line a server, in columns, never wider than the terminal. Pure; any thread.
//
//   127.0.0.1:7070  sending  36.7 %  [=====>         ]  147/400 MiB  733 MB/s  0.4s left
//
// On a narrow terminal things give way in this order: the bar down to ten columns, the second space between columns,
// the bar down to five, a long name, the only server's name, the bytes, the rate, the bar, the time left, the
// percentage. Names are cut only as far as lines still differ, and beside a model's name the server's address not at
// all, until nothing else is left to give way.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_LINE_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_LINE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weightstream::command {

struct ProgressLine {
  std::string name{};
  // Stands in for a name that finds no room.
  std::string short_name{};
  // In a column of its own; empty in every line where the name alone tells them apart.
  std::string model{};
  std::string phase{};
  uint64_t done_bytes = 0;
  // 0 while it is not known: then there is nothing to show but the phase.
  uint64_t total_bytes = 0;
  double bytes_per_second = 0;
};

// For a terminal of `width` columns: no line is longer than width - 1, so that none wraps (at least one column). All
// have the same columns, their bars are equally long, and a bar's length does not change with the figures beside it.
std::vector<std::string> LayOut(const std::vector<ProgressLine>& lines, size_t width);

// "3m05s left"; "" where there is nothing left or no rate to tell it from.
std::string TimeLeftText(uint64_t done_bytes, uint64_t total_bytes, double bytes_per_second);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_PROGRESS_LINE_H_
