// The JSON that a commit hook sends, as a template: {"model_path": "{folder}"}.
//
// Names in braces stand in string values only, so that what is put in is escaped as JSON wants it, whatever it holds:
// {model}, {version}, {path} (the version's file) and {folder} (where that lies). Other braces are left as they are.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_BODY_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_BODY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

struct CurrentVersionEvent;

// A checked template. Immutable.
class CommitHookBody {
 public:
  // Nothing at all: a request without a body.
  CommitHookBody() = default;

  // INVALID_ARGUMENT for what is not JSON, and for a name in braces that is none of those above.
  static absl::StatusOr<CommitHookBody> Parse(absl::string_view text);

  std::string Fill(const CurrentVersionEvent& event) const;

  // True if what it says depends on where the version's file lies.
  bool names_files() const;

 private:
  explicit CommitHookBody(std::string text) : text_(std::move(text)) {}

  std::string text_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_BODY_H_
