// A file that lies in memory and has no name in any folder: what a reader opens by path, at no cost of a disk.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_MEMORY_FILE_H_
#define WEIGHTSTREAM_TESTS_FUZZ_MEMORY_FILE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weightstream {

// The file goes with the object; who has it open or mapped keeps it. Not thread-safe.
class MemoryFile {
 public:
  explicit MemoryFile(absl::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_MEMORY_FILE_H_
