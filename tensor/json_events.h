// Reading JSON as a stream of events: nothing is built that a handler does not build, keys that occur twice are seen,
// and numbers are exact.
#ifndef WEIGHTSTREAM_TENSOR_JSON_EVENTS_H_
#define WEIGHTSTREAM_TENSOR_JSON_EVENTS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Receives the events of one document. A handler answers each with OK or with the error that ends the parse; what it
// does not override is such an error. Not thread-safe.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;

  virtual absl::Status OnStartObject() { return OnOther("an object"); }
  virtual absl::Status OnKey(std::string key) = 0;
  virtual absl::Status OnEndObject() = 0;
  virtual absl::Status OnStartArray() { return OnOther("an array"); }
  virtual absl::Status OnEndArray() { return absl::OkStatus(); }
  virtual absl::Status OnString(std::string value) { return OnOther("a string"); }
  // A whole number of 0 to 2^64 - 1, written without sign, fraction and exponent.
  virtual absl::Status OnUnsigned(uint64_t value) { return OnOther("a number"); }
  // Any value that has no method of its own here, or whose method is not overridden: `what` says which, for the
  // message.
  virtual absl::Status OnOther(absl::string_view what) = 0;
};

// Feeds `json`, exactly one document, to `handler`. INVALID_ARGUMENT with the place where it is not JSON or not UTF-8,
// or the handler's error. Needs no stack for nesting, and throws nothing. `subject` starts the message: "PATH: header".
absl::Status ParseJson(absl::string_view subject, absl::string_view json, JsonHandler& handler);

// Appends `text` (valid UTF-8) as a JSON string with its quotes, only what must be escaped being escaped.
void AppendJsonString(absl::string_view text, std::string* out);
// Whether it is then the text itself between its quotes: nearly every name is.
bool IsPlainInJson(absl::string_view text);
// The same as AppendJsonString, alone.
std::string JsonString(absl::string_view text);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_JSON_EVENTS_H_
