#include "tests/fuzz/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/fuzz_check.h"

namespace weightstream {

MemoryFile::MemoryFile(absl::string_view bytes)
    : fd_(memfd_create("fuzz", MFD_CLOEXEC)), path_(absl::StrCat("/proc/self/fd/", fd_)) {
  Require(fd_ >= 0, "the system gives a file in memory");
  Require(write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "the system takes its bytes");
}

MemoryFile::~MemoryFile() { close(fd_); }

}  // namespace weightstream
