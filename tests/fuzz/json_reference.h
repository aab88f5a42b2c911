// JSON read the plain way, into a tree: what the readers of tensor/, which follow a stream of events, are compared
// with.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_JSON_REFERENCE_H_
#define WEIGHTSTREAM_TESTS_FUZZ_JSON_REFERENCE_H_

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace weightstream {

struct JsonReference {
  nlohmann::json value;
  // Keys that an object has more than once, each with the keys that lead to it; arrays count as an empty key.
  std::set<std::vector<std::string>> repeated;
  // How many objects and arrays lie in each other.
  size_t depth = 0;
};

// Nothing if `text` is not exactly one document in UTF-8 (a byte order mark is allowed). Pure, any thread.
absl::optional<JsonReference> ReadJson(absl::string_view text);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_JSON_REFERENCE_H_
