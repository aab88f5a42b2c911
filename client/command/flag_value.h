// The strict readers of flags' values. Each error names the flag and what it wants. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_FLAG_VALUE_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_FLAG_VALUE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream::command {

// Decimal digits only, within [least, most]; INVALID_ARGUMENT for a sign, a space, anything after the number, overflow.
absl::StatusOr<uint64_t> ParseNumber(absl::string_view flag, absl::string_view text, uint64_t least, uint64_t most);

// Digits with at most one point ("0.25", "4"), above 0 and at most `most`.
absl::StatusOr<double> ParseDecimal(absl::string_view flag, absl::string_view text, uint64_t most);

// The client library's own rule (ValidateAddress), with the flag named.
absl::Status CheckAddress(absl::string_view flag, absl::string_view text);

// Addresses separated by commas; none empty, none twice.
absl::StatusOr<std::vector<std::string>> ParseAddresses(absl::string_view flag, absl::string_view text);

absl::StatusOr<bool> ParseSwitch(absl::string_view flag, absl::string_view text);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_FLAG_VALUE_H_
