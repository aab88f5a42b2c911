#include "tests/gpu/timeline.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weightstream {
namespace {

using Moments = std::pair<absl::Duration, absl::Duration>;

// Disjoint, ascending.
std::vector<Moments> Union(std::vector<Moments> moments) {
  std::sort(moments.begin(), moments.end());
  std::vector<Moments> joined;
  for (const Moments& each : moments) {
    if (each.first >= each.second) continue;
    if (!joined.empty() && each.first <= joined.back().second) {
      joined.back().second = std::max(joined.back().second, each.second);
    } else {
      joined.push_back(each);
    }
  }
  return joined;
}

absl::Duration Length(const std::vector<Moments>& joined) {
  absl::Duration length;
  for (const Moments& each : joined) length += each.second - each.first;
  return length;
}

std::vector<Moments> Intersection(const std::vector<Moments>& a, const std::vector<Moments>& b) {
  std::vector<Moments> common;
  for (auto left = a.begin(), right = b.begin(); left != a.end() && right != b.end();) {
    const Moments both = {std::max(left->first, right->first), std::min(left->second, right->second)};
    if (both.first < both.second) common.push_back(both);
    (left->second < right->second ? left : right)++;
  }
  return common;
}

std::vector<Moments> Of(absl::Span<const ActivitySpan> spans, Activity activity) {
  std::vector<Moments> moments;
  for (const ActivitySpan& span : spans) {
    if (span.activity == activity) moments.emplace_back(span.begin, span.end);
  }
  return Union(std::move(moments));
}

Moments Extent(absl::Span<const ActivitySpan> spans) {
  Moments extent = {absl::InfiniteDuration(), -absl::InfiniteDuration()};
  for (const ActivitySpan& span : spans) {
    extent = {std::min(extent.first, span.begin), std::max(extent.second, span.end)};
  }
  return spans.empty() ? Moments() : extent;
}

// To what a reader wants to know.
std::string LengthText(const Moments& extent) {
  return absl::FormatDuration(absl::Trunc(extent.second - extent.first, absl::Microseconds(10)));
}

// By what goes on and its lane, in the order in which they are shown.
using Lanes = std::map<std::pair<Activity, int>, std::vector<Moments>>;

Lanes LanesOf(absl::Span<const ActivitySpan> spans) {
  Lanes lanes;
  for (const ActivitySpan& span : spans) lanes[{span.activity, span.lane}].emplace_back(span.begin, span.end);
  for (auto& [lane, moments] : lanes) moments = Union(std::move(moments));
  return lanes;
}

std::string NameOf(const std::pair<Activity, int>& lane) {
  return absl::StrCat(lane.first == Activity::kReceive ? "receive " : "copy ", lane.second + 1);
}

}  // namespace

double Overlap::hidden() const {
  const absl::Duration shorter = std::min(receiving, copying);
  return shorter > absl::ZeroDuration() ? absl::FDivDuration(both, shorter) : 0;
}

Overlap OverlapOf(absl::Span<const ActivitySpan> spans) {
  const std::vector<Moments> receiving = Of(spans, Activity::kReceive);
  const std::vector<Moments> copying = Of(spans, Activity::kCopy);
  const Moments extent = Extent(spans);
  return {.elapsed = extent.second - extent.first,
          .receiving = Length(receiving),
          .copying = Length(copying),
          .both = Length(Intersection(receiving, copying))};
}

std::vector<ActivitySpan> WithCopyLanes(std::vector<ActivitySpan> spans) {
  std::stable_sort(spans.begin(), spans.end(),
                   [](const ActivitySpan& a, const ActivitySpan& b) { return a.begin < b.begin; });
  std::vector<absl::Duration> free_from;
  for (ActivitySpan& span : spans) {
    if (span.activity != Activity::kCopy) continue;
    const auto lane =
        std::find_if(free_from.begin(), free_from.end(), [&](absl::Duration free) { return free <= span.begin; });
    span.lane = static_cast<int>(lane - free_from.begin());
    if (lane == free_from.end()) {
      free_from.push_back(span.end);
    } else {
      *lane = span.end;
    }
  }
  return spans;
}

std::vector<ActivitySpan> Middle(absl::Span<const ActivitySpan> spans, int copies) {
  std::vector<Moments> all;
  for (const ActivitySpan& span : spans) {
    if (span.activity == Activity::kCopy) all.emplace_back(span.begin, span.end);
  }
  if (all.empty()) return {};
  std::sort(all.begin(), all.end());
  const size_t wanted = std::min(all.size(), static_cast<size_t>(copies));
  const size_t first = (all.size() - wanted) / 2;
  const Moments window = {all[first].first, all[first + wanted - 1].second};
  std::vector<ActivitySpan> middle;
  for (ActivitySpan span : spans) {
    span.begin = std::max(span.begin, window.first);
    span.end = std::min(span.end, window.second);
    if (span.begin < span.end) middle.push_back(span);
  }
  return middle;
}

std::string TimelineText(absl::Span<const ActivitySpan> spans, int columns) {
  const Moments extent = Extent(spans);
  const absl::Duration column = (extent.second - extent.first) / columns;
  std::string text;
  for (const auto& [lane, moments] : LanesOf(spans)) {
    absl::StrAppendFormat(&text, "%-11s|", NameOf(lane));
    for (int i = 0; i < columns; ++i) {
      const absl::Duration begin = extent.first + column * i;
      const bool busy = Length(Intersection(moments, {{begin, begin + column}})) * 2 >= column;
      text.push_back(busy && column > absl::ZeroDuration() ? '#' : '.');
    }
    text.append("|\n");
  }
  absl::StrAppendFormat(&text, "%-11s %s\n", "", LengthText(extent));
  return text;
}

std::string TimelineSvg(absl::Span<const ActivitySpan> spans, absl::string_view title) {
  constexpr int kLeft = 90, kTop = 34, kWidth = 900, kLane = 22, kBar = 16;
  const Lanes lanes = LanesOf(spans);
  const Moments extent = Extent(spans);
  const auto x = [&](absl::Duration moment) {
    return kLeft + kWidth * absl::FDivDuration(moment - extent.first, extent.second - extent.first);
  };
  const int height = kTop + kLane * static_cast<int>(lanes.size()) + 24;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"8\" y=\"20\">%s</text>\n",
      kLeft + kWidth + 10, height, title);
  int y = kTop;
  for (const auto& [lane, moments] : lanes) {
    absl::StrAppendFormat(&svg, "<text x=\"8\" y=\"%d\">%s</text>\n", y + 12, NameOf(lane));
    for (const Moments& each : moments) {
      absl::StrAppendFormat(&svg, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\"/>\n",
                            x(each.first), y, std::max(0.5, x(each.second) - x(each.first)), kBar,
                            lane.first == Activity::kReceive ? "#4c78a8" : "#f58518");
    }
    y += kLane;
  }
  absl::StrAppendFormat(&svg, "<text x=\"%d\" y=\"%d\">%s</text>\n</svg>\n", kLeft, y + 14, LengthText(extent));
  return svg;
}

}  // namespace weightstream
