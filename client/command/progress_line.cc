#include "client/command/progress_line.h"

#include <algorithm>
#include <array>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/command/formatting.h"

namespace weightstream::command {
namespace {

// In the order of a line.
enum Column : size_t { kName, kPhase, kPercent, kBar, kBytes, kRate, kLeft, kColumns };
using Row = std::array<std::string, kColumns>;
using Widths = std::array<size_t, kColumns>;

constexpr size_t kMostBar = 40;
// Room for the usual figures, so that the bar does not jump when "100 MB/s" becomes "99.9 MB/s".
constexpr size_t kPercentRoom = 6;  // "99.9 %"
constexpr size_t kRateRoom = 9;     // "1.23 GB/s"
constexpr size_t kLeftRoom = 11;    // "12m05s left"
// Only a longer one is worth shortening for spaces between the columns.
constexpr size_t kLongName = 24;
// Of several servers, a name cut to fewer columns says nothing.
constexpr size_t kLeastName = 8;
// The only server's name is of less use: what cannot have as much as this of itself is left out.
constexpr size_t kLeastOnlyName = 16;
// Longer is never true: the rate of a stall.
constexpr absl::Duration kMostTimeLeft = absl::Hours(24 * 99);

// What goes first on a narrow terminal.
constexpr Column kGivenUp[] = {kBytes, kRate, kBar, kLeft, kPercent};

// How lines are drawn where there is room for it. The first that fits is taken.
struct Style {
  size_t gap;
  size_t least_bar;
  // Of kGivenUp, how many.
  size_t given_up;
};
constexpr Style kStyles[] = {{2, 10, 0}, {1, 5, 0}, {1, 5, 1}, {1, 5, 2}, {1, 5, 3}, {1, 5, 4}, {1, 5, 5}};

bool Shows(const Style& style, size_t column) {
  const auto end = std::begin(kGivenUp) + style.given_up;
  return std::find(std::begin(kGivenUp), end, column) == end;
}

std::string DrawBar(uint64_t done, uint64_t total, size_t columns) {
  const size_t inner = columns - 2;
  const double part = static_cast<double>(done) / static_cast<double>(total) * static_cast<double>(inner);
  const size_t filled = std::min(inner, static_cast<size_t>(part));
  std::string bar(filled, '=');
  if (filled < inner) bar += '>';
  bar.resize(inner, ' ');
  return absl::StrCat("[", bar, "]");
}

// From the middle: both ends of a name tell servers apart.
std::string Cut(const std::string& text, size_t most) {
  if (text.size() <= most) return text;
  if (most < kLeastName) return text.substr(0, most);
  const size_t tail = (most - 2) / 2;
  return absl::StrCat(text.substr(0, most - 2 - tail), "..", text.substr(text.size() - tail));
}

Row Cells(const ProgressLine& line) {
  Row row;
  row[kName] = line.name;
  row[kPhase] = line.phase;
  if (line.total_bytes == 0) return row;
  row[kPercent] = absl::StrFormat("%*s", int{kPercentRoom}, FormatPercent(line.done_bytes, line.total_bytes));
  row[kBytes] = FormatBytesOf(line.done_bytes, line.total_bytes);
  if (line.bytes_per_second >= 1) row[kRate] = FormatRate(line.bytes_per_second);
  row[kLeft] = TimeLeftText(line.done_bytes, line.total_bytes, line.bytes_per_second);
  return row;
}

Widths WidestCells(const std::vector<Row>& rows) {
  Widths widths = {};
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  return widths;
}

// What the columns may come to need while the same bytes flow. Bars have no room here: they take what is left.
Widths RoomFor(const std::vector<ProgressLine>& lines, const std::vector<Row>& rows) {
  Widths room = WidestCells(rows);
  for (const ProgressLine& line : lines) {
    if (line.total_bytes == 0) continue;
    const std::string all = FormatBytesOf(line.total_bytes, line.total_bytes);
    room[kBytes] = std::max(room[kBytes], all.size());
    room[kRate] = std::max(room[kRate], kRateRoom);
    room[kLeft] = std::max(room[kLeft], kLeftRoom);
  }
  return room;
}

// By the columns other than names, with a gap between them. Where there are bytes there is a bar.
size_t Taken(const Style& style, const Widths& room) {
  size_t taken = 0;
  for (size_t i = kPhase; i < kColumns; ++i) {
    const size_t width = i == kBar && room[kBytes] > 0 ? style.least_bar : room[i];
    if (Shows(style, i) && width > 0) taken += (taken > 0 ? style.gap : 0) + width;
  }
  return taken;
}

// The columns that names get beside the others: all they need, or what they can be cut to. 0 leaves them out.
struct NameRoom {
  bool fits = false;
  size_t columns = 0;
  bool whole = false;
};

NameRoom FitNames(const std::vector<ProgressLine>& lines, const Style& style, size_t taken, size_t room) {
  size_t whole = 0;
  size_t brief = 0;
  for (const ProgressLine& line : lines) {
    whole = std::max(whole, line.name.size());
    brief = std::max(brief, line.short_name.size());
  }
  const size_t gap = taken > 0 ? style.gap : 0;
  const size_t left = room > taken + gap ? room - taken - gap : 0;
  if (whole <= left) return {true, whole, true};
  const bool roomy = style.gap > 1;
  if (brief <= left && (!roomy || whole > kLongName)) return {true, brief, false};
  if (!roomy && left >= (lines.size() > 1 ? kLeastName : kLeastOnlyName)) return {true, left, false};
  const bool can_go = !roomy && lines.size() == 1 && taken > 0;
  return {can_go && taken <= room, 0, false};
}

struct Fit {
  Style style;
  NameRoom names;
  size_t bar_columns = 0;
};

Fit FirstThatFits(const std::vector<ProgressLine>& lines, const Widths& widths, size_t room) {
  const auto names_in = [&](const Style& style) { return FitNames(lines, style, Taken(style, widths), room); };
  const Style* style = std::begin(kStyles);
  while (style + 1 != std::end(kStyles) && !names_in(*style).fits) ++style;

  const size_t taken = Taken(*style, widths);
  const size_t others = taken > 0 ? taken + style->gap : 0;
  NameRoom names = names_in(*style);
  if (!names.fits) names.columns = room > others ? room - others : 0;
  const size_t used = names.columns > 0 ? others + names.columns : taken;
  return {*style, names, std::min(kMostBar, style->least_bar + room - std::min(room, used))};
}

// The host without its domain and port.
std::string HostLabel(const std::string& name) {
  const bool socket_path = name.find('/') != std::string::npos;
  if (socket_path) return name;
  const std::string host = name.substr(0, name.rfind(':'));
  const bool address = host.empty() || !absl::ascii_isalpha(static_cast<unsigned char>(host.front()));
  return address ? host : host.substr(0, host.find('.'));
}

std::string Join(const Row& row, const Style& style, const Widths& widths) {
  std::string text;
  for (size_t i = 0; i < kColumns; ++i) {
    if (!Shows(style, i) || widths[i] == 0) continue;
    if (!text.empty()) text.append(style.gap, ' ');
    const std::string padding(widths[i] - row[i].size(), ' ');
    const bool right = i == kPercent || i >= kBytes;
    absl::StrAppend(&text, right ? padding : row[i], right ? row[i] : padding);
  }
  absl::StripTrailingAsciiWhitespace(&text);
  return text;
}

}  // namespace

std::vector<std::string> LayOut(const std::vector<ProgressLine>& lines, size_t width) {
  const size_t room = std::max<size_t>(width, 2) - 1;
  std::vector<Row> rows;
  for (const ProgressLine& line : lines) rows.push_back(Cells(line));
  const Fit fit = FirstThatFits(lines, RoomFor(lines, rows), room);
  for (size_t i = 0; i < lines.size(); ++i) {
    rows[i][kName] = Cut(fit.names.whole ? lines[i].name : lines[i].short_name, fit.names.columns);
    if (Shows(fit.style, kBar) && lines[i].total_bytes > 0) {
      rows[i][kBar] = DrawBar(lines[i].done_bytes, lines[i].total_bytes, fit.bar_columns);
    }
  }
  const Widths widths = WidestCells(rows);
  std::vector<std::string> texts;
  for (const Row& row : rows) texts.push_back(Join(row, fit.style, widths).substr(0, room));
  return texts;
}

std::vector<std::string> ShortNames(const std::vector<std::string>& names) {
  std::vector<std::string> brief;
  for (const std::string& name : names) brief.push_back(HostLabel(name));
  const std::set<std::string> distinct(brief.begin(), brief.end());
  return distinct.size() == names.size() ? brief : names;
}

std::string TimeLeftText(uint64_t done_bytes, uint64_t total_bytes, double bytes_per_second) {
  if (done_bytes >= total_bytes || bytes_per_second < 1) return "";
  const absl::Duration left = absl::Seconds(static_cast<double>(total_bytes - done_bytes) / bytes_per_second);
  if (left > kMostTimeLeft) return "> 99d left";
  return absl::StrCat(DurationText(left), " left");
}

}  // namespace weightstream::command
