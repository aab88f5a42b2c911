// The strict readers of flags' values. Each error names the flag and what it wants. Pure; any thread.
#ifndef WEIGHTSTREAM_FLAGS_FLAG_VALUE_H_
#define WEIGHTSTREAM_FLAGS_FLAG_VALUE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// Decimal digits only, within [least, most]; INVALID_ARGUMENT for a sign, a space, anything after the number, overflow.
absl::StatusOr<uint64_t> ParseNumber(absl::string_view flag, absl::string_view text, uint64_t least, uint64_t most);

// Digits with at most one point ("0.25", "4"), above 0 and at most `most`.
absl::StatusOr<double> ParseDecimal(absl::string_view flag, absl::string_view text, uint64_t most);

// What else a text must be; its error is told behind the flag's name.
using TextCheck = std::function<absl::Status(absl::string_view)>;

// OK, or INVALID_ARGUMENT with the flag named. An empty check takes everything.
absl::Status CheckText(absl::string_view flag, absl::string_view text, const TextCheck& check);

// Texts separated by commas; none empty, none twice.
absl::StatusOr<std::vector<std::string>> ParseList(absl::string_view flag, absl::string_view text,
                                                   const TextCheck& check);

absl::StatusOr<bool> ParseSwitch(absl::string_view flag, absl::string_view text);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_FLAGS_FLAG_VALUE_H_
