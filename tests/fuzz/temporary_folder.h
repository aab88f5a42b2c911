// A folder that a fuzz target may fill, in memory where the system has some.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_TEMPORARY_FOLDER_H_
#define WEIGHTSTREAM_TESTS_FUZZ_TEMPORARY_FOLDER_H_

#include <filesystem>

namespace weightstream {

// New and empty; removed with the object. Lies in WEIGHTSTREAM_FUZZ_FOLDER, or else in /dev/shm, or else where
// temporary files go. Not thread-safe.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_TEMPORARY_FOLDER_H_
