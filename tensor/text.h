// Text that comes from outside: is it UTF-8, and how is it shown in a message.
//
// Everything here is pure and may be called from any thread.
#ifndef WEIGHTSTREAM_TENSOR_TEXT_H_
#define WEIGHTSTREAM_TENSOR_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weightstream {

// `text` made safe and short for a message or a log line: cut to 100 bytes with "..." and its length, control
// characters and broken UTF-8 escaped.
std::string Printable(absl::string_view text);

// True if `text` is well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
bool IsValidUtf8(absl::string_view text);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_TEXT_H_
