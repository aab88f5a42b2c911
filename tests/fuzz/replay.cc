// A main for a fuzz target without a fuzzer: gives it every file of the folders on the command line, each as a test
// case of its own. So any compiler can check that what was found once stays mended.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

// A target ends the process where a promise is broken: the case that was running last names the file.
class ReplayedInput : public testing::Test {
 public:
  explicit ReplayedInput(fs::path path) : path_(std::move(path)) {}

  void TestBody() override {
    std::ifstream file(path_, std::ios::binary);
    const std::string input(std::istreambuf_iterator<char>(file), {});
    ASSERT_TRUE(file.good() || file.eof()) << "cannot read " << path_;
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size()), 0);
  }

 private:
  const fs::path path_;
};

std::vector<fs::path> FilesOf(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// False if there is nothing to replay.
bool RegisterInputs(const char* folder) {
  const std::vector<fs::path> files = FilesOf(folder);
  for (const fs::path& path : files) {
    testing::RegisterTest("Corpus", path.filename().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [path]() -> testing::Test* { return new ReplayedInput(path); });
  }
  return !files.empty();
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FILE_OR_FOLDER...\n", argv[0]);
    return 2;
  }
  for (int i = 1; i < argc; ++i) {
    if (!weightstream::RegisterInputs(argv[i])) {
      std::fprintf(stderr, "%s holds no input to replay\n", argv[i]);
      return 1;
    }
  }
  return RUN_ALL_TESTS();
}
