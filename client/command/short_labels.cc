#include "client/command/short_labels.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace weightstream::command {
namespace {

constexpr char kCut[] = "..";
constexpr size_t kCutColumns = sizeof(kCut) - 1;
// In fewer columns there is no room for two ends.
constexpr size_t kLeastForTwoEnds = 8;

// The host without its domain and port.
std::string HostLabel(const std::string& name) {
  const bool socket_path = name.find('/') != std::string::npos;
  if (socket_path) return name;
  const std::string host = name.substr(0, name.rfind(':'));
  const bool address = host.empty() || !absl::ascii_isalpha(static_cast<unsigned char>(host.front()));
  return address ? host : host.substr(0, host.find('.'));
}

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

// ":7070" at the end, in columns; 0 if there is none.
size_t PortColumns(const std::string& name) {
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos || colon + 1 == name.size()) return 0;
  return std::all_of(name.begin() + static_cast<std::ptrdiff_t>(colon) + 1, name.end(), IsDigit) ? name.size() - colon
                                                                                                 : 0;
}

std::string Cut(const std::string& name, size_t most) {
  if (name.size() <= most) return name;
  if (most < kLeastForTwoEnds) return name.substr(0, most);
  size_t tail = (most - kCutColumns) / 2;
  if (const size_t port = PortColumns(name); port <= most - kCutColumns) tail = std::max(tail, port);
  return absl::StrCat(name.substr(0, most - kCutColumns - tail), kCut, name.substr(name.size() - tail));
}

// Numbers whole: of "host:4001" and "host:4002" it is "host:".
size_t SharedPrefix(const std::vector<std::string>& names) {
  size_t shared = names.empty() ? 0 : names.front().size();
  for (const std::string& name : names) {
    const auto end = std::mismatch(name.begin(), name.end(), names.front().begin(), names.front().end()).first;
    shared = std::min(shared, static_cast<size_t>(end - name.begin()));
  }
  while (shared > 0 && IsDigit(names.front()[shared - 1])) --shared;
  return shared;
}

size_t Distinct(const std::vector<std::string>& names) {
  return std::set<std::string>(names.begin(), names.end()).size();
}

}  // namespace

std::vector<std::string> ShortNames(const std::vector<std::string>& names) {
  std::vector<std::string> brief;
  for (const std::string& name : names) brief.push_back(HostLabel(name));
  return Distinct(brief) == names.size() ? brief : names;
}

std::vector<std::string> CutNames(const std::vector<std::string>& names, size_t most) {
  std::vector<std::string> cut;
  for (const std::string& name : names) cut.push_back(Cut(name, most));
  const size_t shared = SharedPrefix(names);
  if (shared <= kCutColumns || Distinct(cut) == Distinct(names)) return cut;
  std::vector<std::string> ends;
  for (const std::string& name : names) ends.push_back(Cut(absl::StrCat(kCut, name.substr(shared)), most));
  return Distinct(ends) > Distinct(cut) ? ends : cut;
}

size_t ColumnsToDiffer(const std::vector<std::string>& names, size_t least) {
  size_t longest = 0;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  const size_t distinct = Distinct(names);
  size_t columns = std::min(least, longest);
  while (columns < longest && Distinct(CutNames(names, columns)) < distinct) ++columns;
  return columns;
}

}  // namespace weightstream::command
