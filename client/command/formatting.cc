#include "client/command/formatting.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace weightstream::command {
namespace {

constexpr const char* kByteUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
constexpr const char* kRateUnits[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s"};

// The index in kByteUnits of the unit in which a size is read. 1023.95 would print as 1024.0: the next unit takes over
// there.
size_t ByteUnit(uint64_t bytes) {
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kByteUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit;
}

}  // namespace

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  const size_t unit = ByteUnit(bytes);
  return absl::StrFormat("%.1f %s", std::ldexp(static_cast<double>(bytes), -10 * static_cast<int>(unit)),
                         kByteUnits[unit]);
}

std::string FormatBytesOf(uint64_t done, uint64_t total) {
  if (total < 1024) return absl::StrCat(std::min(done, total), "/", total, " B");
  const size_t unit = ByteUnit(total);
  const int bits = 10 * static_cast<int>(unit);
  const double all = std::ldexp(static_cast<double>(total), -bits);
  const int digits = all < 99.95 ? 1 : 0;
  const double steps = digits == 1 ? 10 : 1;
  const double some = std::floor(std::ldexp(static_cast<double>(done), -bits) * steps) / steps;
  return absl::StrFormat("%.*f/%.*f %s", digits, done < total ? some : all, digits, all, kByteUnits[unit]);
}

std::string FormatRate(double bytes_per_second) {
  if (!(bytes_per_second >= 1) || std::isinf(bytes_per_second)) return "0 B/s";
  double value = bytes_per_second;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kRateUnits)) {
    value /= 1000;
    ++unit;
  }
  const int digits = unit < 2 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f %s", digits, value, kRateUnits[unit]);
}

std::string DurationText(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "?";
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(duration));
  if (seconds < 9.95) return absl::StrFormat("%.1fs", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return absl::StrCat(whole, "s");
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  if (whole < 86400) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  return absl::StrFormat("%dd%02dh", whole / 86400, whole / 3600 % 24);
}

double Percent(uint64_t done, uint64_t total) {
  if (done >= total) return 100;
  const double tenths = std::floor(static_cast<double>(done) * 1000 / static_cast<double>(total));
  return std::min(tenths, 999.0) / 10;
}

std::string FormatPercent(uint64_t done, uint64_t total) { return absl::StrFormat("%.1f %%", Percent(done, total)); }

std::string FormatVersions(absl::Span<const uint64_t> versions) {
  if (versions.empty()) return "-";
  std::string out;
  for (size_t first = 0; first < versions.size();) {
    size_t last = first;
    while (last + 1 < versions.size() && versions[last + 1] == versions[last] + 1) ++last;
    absl::StrAppend(&out, out.empty() ? "" : ",", versions[first]);
    if (last > first) absl::StrAppend(&out, last == first + 1 ? "," : "-", versions[last]);
    first = last + 1;
  }
  return out;
}

std::string TimeText(absl::Time time) {
  if (time == absl::InfinitePast()) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

std::string JsonTimeText(absl::Time time) {
  if (time == absl::InfinitePast()) return "";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

std::string OneLine(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string WrapLines(absl::string_view text, size_t columns) {
  std::vector<std::string> lines;
  for (absl::string_view rest : absl::StrSplit(text, '\n')) {
    std::string indent;
    while (indent.size() + rest.size() > columns) {
      const size_t first_word = std::min(rest.find_first_not_of(' '), rest.size());
      size_t end = rest.rfind(' ', columns - indent.size());
      if (end == absl::string_view::npos || end < first_word) end = rest.find(' ', first_word);
      if (end == absl::string_view::npos) break;
      lines.push_back(absl::StrCat(indent, rest.substr(0, end)));
      rest.remove_prefix(end + 1);
      indent = "  ";
    }
    lines.push_back(absl::StrCat(indent, rest));
  }
  return absl::StrJoin(lines, "\n");
}

std::string FormatTable(absl::Span<const std::string> titles, absl::Span<const std::vector<std::string>> rows,
                        size_t most_first) {
  const size_t columns = titles.size();
  std::vector<std::string> header(titles.begin(), titles.end());
  std::vector<bool> right(columns);
  std::vector<size_t> widths(columns);
  for (size_t i = 0; i < columns; ++i) {
    right[i] = !header[i].empty() && header[i].front() == '>';
    if (right[i]) header[i].erase(0, 1);
    widths[i] = header[i].size();
    for (const std::vector<std::string>& row : rows) {
      if (row.size() == 1) continue;
      if (i > 0 || row[i].size() <= most_first) widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string out;
  const auto append_row = [&](const std::vector<std::string>& row) {
    if (row.size() == 1) {
      absl::StrAppend(&out, row[0], "\n");
      return;
    }
    std::string line;
    for (size_t i = 0; i < columns; ++i) {
      std::string cell = row[i];
      if (cell.size() > widths[i]) {
        absl::StrAppend(&out, cell, "\n");
        cell.clear();
      }
      const std::string padding(widths[i] - cell.size(), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", right[i] ? padding : cell, right[i] ? cell : padding);
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&out, line, "\n");
  };
  append_row(header);
  for (const std::vector<std::string>& row : rows) append_row(row);
  return out;
}

}  // namespace weightstream::command
