#include "tests/fuzz/temporary_folder.h"

#include <stdlib.h>

#include <string>
#include <system_error>

#include "tests/fuzz/fuzz_check.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

// Thousands of files a second would wear a disk, and wait for it.
fs::path Parent() {
  if (const char* chosen = getenv("WEIGHTSTREAM_FUZZ_FOLDER"); chosen != nullptr) return chosen;
  std::error_code error;
  return fs::is_directory("/dev/shm", error) ? fs::path("/dev/shm") : fs::temp_directory_path();
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (Parent() / "weightstream-fuzz-XXXXXX").string();
  Require(mkdtemp(name.data()) != nullptr, "there is room for a temporary folder", name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace weightstream
