#include "tests/fuzz/called_methods.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/fuzz/fuzz_check.h"

namespace weightstream {

bool MayCall(Caller caller, absl::string_view method) {
  const std::string path =
      absl::StartsWith(method, "/") ? std::string(method) : absl::StrCat("/weightstream.v1.WeightStream/", method);
  const auto* const found = std::find_if(std::begin(kCalledMethods), std::end(kCalledMethods),
                                         [&path](const CalledMethod& called) { return called.path == path; });
  Require(found != std::end(kCalledMethods), "a method that is called is in the table", path);
  return caller <= found->least;
}

}  // namespace weightstream
