#include "server/commit_hook.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/commit_hook_exec.h"
#include "server/commit_hook_http.h"

namespace weightstream {
namespace {

constexpr size_t kMostAnswerBytes = 300;

}  // namespace

std::unique_ptr<CommitHook> NewCommitHook(const CommitHookOptions& options) {
  if (!options.program.empty()) return NewExecHook(options.program, options.timeout);
  return NewHttpHook(options);
}

std::string ShortAnswer(absl::string_view answer) {
  answer = absl::StripAsciiWhitespace(answer);
  std::string line(answer.substr(0, kMostAnswerBytes));
  for (char& c : line) {
    // Other bytes than ASCII would not do in a message either: proto3 wants UTF-8, and the cut may go through one.
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
    if (!absl::ascii_isascii(static_cast<unsigned char>(c))) c = '?';
  }
  if (answer.size() > kMostAnswerBytes) absl::StrAppend(&line, "... (", answer.size(), " bytes)");
  return line;
}

}  // namespace weightstream
