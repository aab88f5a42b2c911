// What a fuzz target says when a promise is broken: a fuzzer takes only the end of the process for a finding.
//
// Any thread.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_FUZZ_CHECK_H_
#define WEIGHTSTREAM_TESTS_FUZZ_FUZZ_CHECK_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Ends the process, with the promise and the detail on stderr, unless `kept`.
void Require(bool kept, absl::string_view promise, absl::string_view detail = {});

// An error that the input caused must be INVALID_ARGUMENT, and readable: some text, all of it UTF-8, of a length that
// does not grow with the input.
void RequireClearError(const absl::Status& status);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_FUZZ_CHECK_H_
