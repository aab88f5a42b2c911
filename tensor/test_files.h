// Files for tests: written by hand, so that what is tested does not vouch for itself.
#ifndef WEIGHTSTREAM_TENSOR_TEST_FILES_H_
#define WEIGHTSTREAM_TENSOR_TEST_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// The bytes of a safetensors file: the length of `json`, `json`, `data`.
std::string RawSafetensors(absl::string_view json, absl::string_view data);

// A new, empty folder under the test's own temporary folder.
std::string MakeTestFolder();

void WriteTestFile(const std::string& path, absl::string_view bytes);
std::string ReadTestFile(const std::string& path);

// The names in a folder, hidden ones too, ascending.
std::vector<std::string> NamesIn(const std::string& folder);

// Matches a non-OK status of `code` whose message has each of `parts`.
void ExpectError(const absl::Status& status, absl::StatusCode code, const std::vector<std::string>& parts);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_TEST_FILES_H_
