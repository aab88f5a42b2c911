#include "flags/flag_value.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tensor/text.h"

namespace weightstream {
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

absl::Status CheckText(absl::string_view flag, absl::string_view text, const TextCheck& check) {
  const absl::Status status = check ? check(text) : absl::OkStatus();
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", status.message()));
}

absl::StatusOr<std::vector<std::string>> ParseList(absl::string_view flag, absl::string_view text,
                                                   const TextCheck& check) {
  std::vector<std::string> items;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    std::string item(absl::StripAsciiWhitespace(part));
    if (item.empty())
      return absl::InvalidArgumentError(absl::StrCat("--", flag, " has an empty entry in ", Quoted(text)));
    if (absl::Status status = CheckText(flag, item, check); !status.ok()) return status;
    if (std::find(items.begin(), items.end(), item) != items.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, " names ", Quoted(item), " twice; name it once"));
    }
    items.push_back(std::move(item));
  }
  return items;
}

absl::StatusOr<bool> ParseSwitch(absl::string_view flag, absl::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is a switch: write --", flag, ", or --", flag, "=true or =false, not ", Quoted(text)));
}

}  // namespace weightstream
