#include "client/command/progress_line.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/command/formatting.h"
#include "client/command/short_labels.h"

namespace weightstream::command {
namespace {

// In the order of a line.
enum Column : size_t { kName, kModel, kPhase, kPercent, kBar, kBytes, kRate, kLeft, kColumns };
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
// Beside a model's name: "192.168.100.100:65535", so that an address stands whole.
constexpr size_t kLeastAddress = 21;
constexpr size_t kLeastModel = 12;
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

Row Cells(const ProgressLine& line) {
  Row row;
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

using Strings = std::vector<std::string>;

// What the names and the models of all lines are, and the columns that they take.
struct Names {
  explicit Names(const std::vector<ProgressLine>& lines) : only(lines.size() == 1) {
    for (const ProgressLine& line : lines) {
      whole.push_back(line.name);
      brief.push_back(line.short_name);
      models.push_back(line.model);
      whole_columns = std::max(whole_columns, line.name.size());
      brief_columns = std::max(brief_columns, line.short_name.size());
      model_columns = std::max(model_columns, line.model.size());
    }
    const size_t least = model_columns > 0 ? kLeastAddress : only ? kLeastOnlyName : kLeastName;
    // The only one can be left out instead.
    least_brief = only ? least : std::min(brief_columns, std::max(least, ColumnsToDiffer(brief, kLeastName)));
    least_model = ColumnsToDiffer(models, kLeastModel);
  }

  size_t Gap(const Style& style) const { return model_columns > 0 && whole_columns > 0 ? style.gap : 0; }

  bool only;
  Strings whole{}, brief{}, models{};
  size_t whole_columns = 0, brief_columns = 0, model_columns = 0;
  // The fewest that they are cut to while something else can give way.
  size_t least_brief = 0, least_model = 0;
};

// The columns that names and models get beside the others: all they need, or what they can be cut to. 0 leaves them
// out.
struct NameRoom {
  bool fits = false;
  size_t name = 0;
  size_t model = 0;
  bool whole = false;
};

// All of `left` columns: the model is whole before the name gets more than it must.
NameRoom CutInto(const Names& names, const Style& style, size_t left) {
  if (names.model_columns == 0) return {true, left, 0, false};
  const size_t both = left - std::min(left, names.Gap(style));
  size_t name = std::max(names.least_brief, both - std::min(both, names.model_columns));
  if (both < names.least_brief + names.least_model) name = both / 2;
  name = std::min(names.brief_columns, name);
  return {true, name, both - name, false};
}

NameRoom FitNames(const Names& names, const Style& style, size_t taken, size_t room) {
  const size_t gap = taken > 0 ? style.gap : 0;
  const size_t left = room > taken + gap ? room - taken - gap : 0;
  const size_t models = names.Gap(style) + names.model_columns;
  if (names.whole_columns + models <= left) return {true, names.whole_columns, names.model_columns, true};
  const bool roomy = style.gap > 1;
  const bool long_name = names.whole_columns + models > kLongName;
  if (names.brief_columns + models <= left && (!roomy || long_name)) {
    return {true, names.brief_columns, names.model_columns, false};
  }
  if (!roomy && left >= names.least_brief + names.Gap(style) + names.least_model) return CutInto(names, style, left);
  const bool can_go = !roomy && names.only && taken > 0;
  return {can_go && taken <= room, 0, 0, false};
}

struct Fit {
  Style style;
  NameRoom names;
  size_t bar_columns = 0;
};

Fit FirstThatFits(const Names& names, const Widths& widths, size_t room) {
  const auto names_in = [&](const Style& style) { return FitNames(names, style, Taken(style, widths), room); };
  const Style* style = std::begin(kStyles);
  while (style + 1 != std::end(kStyles) && !names_in(*style).fits) ++style;

  const size_t taken = Taken(*style, widths);
  const size_t others = taken > 0 ? taken + style->gap : 0;
  NameRoom fit = names_in(*style);
  if (!fit.fits) fit = CutInto(names, *style, room > others ? room - others : 0);
  const size_t named = fit.name + fit.model + (fit.name > 0 && fit.model > 0 ? style->gap : 0);
  const size_t used = named > 0 ? others + named : taken;
  return {*style, fit, std::min(kMostBar, style->least_bar + room - std::min(room, used))};
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
  const Names names(lines);
  const Fit fit = FirstThatFits(names, RoomFor(lines, rows), room);
  const Strings shown = CutNames(fit.names.whole ? names.whole : names.brief, fit.names.name);
  const Strings models = CutNames(names.models, fit.names.model);
  for (size_t i = 0; i < lines.size(); ++i) {
    rows[i][kName] = shown[i];
    rows[i][kModel] = models[i];
    if (Shows(fit.style, kBar) && lines[i].total_bytes > 0) {
      rows[i][kBar] = DrawBar(lines[i].done_bytes, lines[i].total_bytes, fit.bar_columns);
    }
  }
  const Widths widths = WidestCells(rows);
  std::vector<std::string> texts;
  for (const Row& row : rows) texts.push_back(Join(row, fit.style, widths).substr(0, room));
  return texts;
}

std::string TimeLeftText(uint64_t done_bytes, uint64_t total_bytes, double bytes_per_second) {
  if (done_bytes >= total_bytes || bytes_per_second < 1) return "";
  const absl::Duration left = absl::Seconds(static_cast<double>(total_bytes - done_bytes) / bytes_per_second);
  if (left > kMostTimeLeft) return "> 99d left";
  return absl::StrCat(DurationText(left), " left");
}

}  // namespace weightstream::command
