#include "client/command/flag_value.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/connection.h"
#include "tensor/spec.h"

namespace weightstream::command {
namespace {

std::string Quoted(absl::string_view text) { return absl::StrCat("\"", Printable(text), "\""); }

bool AllDigits(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

std::string Bounds(uint64_t least, uint64_t most) {
  if (most == std::numeric_limits<uint64_t>::max()) return absl::StrCat("a whole number of at least ", least);
  return absl::StrCat("a whole number from ", least, " to ", most);
}

}  // namespace

absl::StatusOr<uint64_t> ParseNumber(absl::string_view flag, absl::string_view text, uint64_t least, uint64_t most) {
  uint64_t number = 0;
  // SimpleAtoi forgives signs and spaces; scripts are better served by an error.
  if (!AllDigits(text) || !absl::SimpleAtoi(text, &number) || number < least || number > most) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " wants ", Bounds(least, most), ", not ", Quoted(text)));
  }
  return number;
}

absl::StatusOr<double> ParseDecimal(absl::string_view flag, absl::string_view text, uint64_t most) {
  double number = 0;
  // SimpleAtod would also take "inf", "nan", "1e9" and hexadecimal.
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c) || c == '.'; });
  if (!plain || !absl::SimpleAtod(text, &number) || !(number > 0) || number > static_cast<double>(most)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " wants a number above 0 and at most ", most,
                                                   ", such as 0.25 or 4, not ", Quoted(text)));
  }
  return number;
}

absl::Status CheckAddress(absl::string_view flag, absl::string_view text) {
  const absl::Status status = ValidateAddress(text);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", status.message()));
}

absl::StatusOr<std::vector<std::string>> ParseAddresses(absl::string_view flag, absl::string_view text) {
  std::vector<std::string> addresses;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::string address(absl::StripAsciiWhitespace(part));
    if (absl::Status status = CheckAddress(flag, address); !status.ok()) return status;
    if (std::find(addresses.begin(), addresses.end(), address) != addresses.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, " names ", Quoted(address), " twice; name it once"));
    }
    addresses.push_back(address);
  }
  return addresses;
}

absl::StatusOr<bool> ParseSwitch(absl::string_view flag, absl::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is a switch: write --", flag, ", or --", flag, "=true or =false, not ", Quoted(text)));
}

}  // namespace weightstream::command
