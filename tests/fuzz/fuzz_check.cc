#include "tests/fuzz/fuzz_check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tensor/text.h"

namespace weightstream {
namespace {

// Printable() cuts each text from outside to 100 bytes, and a shape of 64 dimensions is the longest list in a message.
constexpr size_t kMaxMessageBytes = 4096;

}  // namespace

void Require(bool kept, absl::string_view promise, absl::string_view detail) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %.*s\n%.*s\n", static_cast<int>(promise.size()), promise.data(),
               static_cast<int>(detail.size()), detail.data());
  std::abort();
}

void RequireClearError(const absl::Status& status) {
  Require(absl::IsInvalidArgument(status), "bad input is INVALID_ARGUMENT", status.ToString());
  Require(!status.message().empty() && status.message().size() <= kMaxMessageBytes, "a message has a readable length",
          status.ToString());
  Require(IsValidUtf8(status.message()), "a message is UTF-8", status.ToString());
}

}  // namespace weightstream
