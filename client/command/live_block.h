// Lines at the end of a terminal that are redrawn in place, with others scrolling away above them.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_LIVE_BLOCK_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_LIVE_BLOCK_H_

#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace weightstream::command {

// Not thread-safe. Nobody else may write to the terminal while the block is drawn.
class LiveBlock {
 public:
  // Whether `stream` is a terminal that can redraw.
  static bool CanRedraw(FILE* stream);

  struct Size {
    size_t columns = 80;
    size_t rows = 24;
  };
  // Of the terminal that `stream` is: asked anew each time, since people resize their windows.
  static Size SizeOf(FILE* stream);

  // `stream` must outlive the block.
  explicit LiveBlock(FILE* stream) : stream_(stream) {}

  // In place of what was drawn before. Requires lines shorter than the terminal is wide, and fewer of them than it is
  // high. False if the terminal cannot be written to.
  bool Draw(const std::vector<std::string>& lines);

  // Wipes the block and writes the text, which ends with a line feed and stays; what is drawn next is below it.
  bool Say(const std::string& text);

  void Wipe();

 private:
  FILE* const stream_;
  size_t drawn_lines_ = 0;
};

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_LIVE_BLOCK_H_
