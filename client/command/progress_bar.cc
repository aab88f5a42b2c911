#include "client/command/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command/formatting.h"

namespace weightstream::command {
namespace {

constexpr size_t kLeastBar = 10;
constexpr size_t kMostBar = 40;
// A longer label is cut: the figures matter more.
constexpr size_t kMostLabel = 40;
// As long as the longest phase, so that the bars of several servers stand below each other.
constexpr size_t kPhaseColumns = 10;

std::string TimeLeft(uint64_t done, uint64_t total, double rate) {
  if (done >= total || rate < 1) return "";
  return absl::StrCat(DurationText(absl::Seconds(static_cast<double>(total - done) / rate)), " left");
}

std::string DrawBar(uint64_t done, uint64_t total, size_t columns) {
  const size_t inner = columns - 2;
  size_t filled = total == 0 ? 0 : static_cast<size_t>(static_cast<double>(done) / static_cast<double>(total) * inner);
  filled = std::min(filled, inner);
  std::string bar(filled, '=');
  if (filled < inner) bar += '>';
  bar.resize(inner, ' ');
  return absl::StrCat("[", bar, "]");
}

// A line of a terminal. On a narrow one the bar gives way first, then time left, rate and bytes.
struct BarLine {
  std::string label;
  std::vector<std::string> figures;
  uint64_t done = 0;
  uint64_t total = 0;

  std::string Text() const { return absl::StrCat(label, figures.empty() ? "" : "  ", absl::StrJoin(figures, "  ")); }
};

BarLine NewBarLine(std::string label, uint64_t done, uint64_t total, double rate) {
  BarLine line = {std::move(label), {}, done, total};
  if (total == 0) return line;
  line.figures = {absl::StrFormat("%7s", FormatPercent(done, total)),
                  absl::StrCat(FormatBytes(done), " of ", FormatBytes(total))};
  if (rate >= 1) line.figures.push_back(FormatRate(rate));
  if (const std::string left = TimeLeft(done, total, rate); !left.empty()) line.figures.push_back(left);
  return line;
}

// The bars of all lines are equally long, so that they can be compared: the fullest line decides.
std::vector<std::string> DrawLines(std::vector<BarLine> lines, size_t width) {
  const size_t room = std::max<size_t>(width, 2) - 1;
  size_t bar_columns = kMostBar;
  for (BarLine& line : lines) {
    while (!line.figures.empty() && line.Text().size() > room) line.figures.pop_back();
    if (line.total == 0) continue;
    const size_t taken = std::min(room, line.Text().size() + 2);
    bar_columns = std::min(bar_columns, room - taken);
  }
  std::vector<std::string> texts;
  for (BarLine& line : lines) {
    if (!line.figures.empty() && bar_columns >= kLeastBar) {
      line.figures.insert(line.figures.begin() + 1, DrawBar(line.done, line.total, bar_columns));
    }
    texts.push_back(line.Text().substr(0, room));
  }
  return texts;
}

std::string Cut(const std::string& text, size_t most) {
  return text.size() <= most ? text : absl::StrCat(text.substr(0, most - 2), "..");
}

std::string VersionPart(uint64_t version) { return version == 0 ? "" : absl::StrCat(" (version ", version, ")"); }

std::string LogLine(const std::string& label, uint64_t done, uint64_t total, double rate) {
  std::vector<std::string> parts = {label};
  if (total > 0) parts.push_back(absl::StrCat(FormatPercent(done, total), " of ", FormatBytes(total)));
  if (rate >= 1) parts.push_back(FormatRate(rate));
  if (const std::string left = TimeLeft(done, total, rate); !left.empty()) parts.push_back(left);
  return absl::StrJoin(parts, ", ");
}

}  // namespace

ProgressBar::ProgressBar(std::vector<std::string> servers) {
  for (std::string& name : servers) servers_.push_back(Server{.name = std::move(name)});
}

ProgressBar::Server* ProgressBar::Find(absl::string_view name) {
  for (Server& server : servers_) {
    if (server.name == name) return &server;
  }
  return nullptr;
}

ProgressBar::News ProgressBar::Update(absl::string_view name, const TransferState& state, absl::Time now) {
  News news;
  Server* server = Find(name);
  if (server == nullptr) return news;
  const TransferState before = std::exchange(server->state, state);
  server->state.done_bytes = std::min(state.done_bytes, state.total_bytes);
  server->meter.Add(now, server->state.done_bytes);
  if (state.resumed_bytes > 0 && before.resumed_bytes == 0) {
    news.notices.push_back(
        absl::StrCat(server->name, ": resumed: ", FormatBytes(state.resumed_bytes), " were there already"));
  }
  if (state.retries > before.retries) {
    news.notices.push_back(absl::StrCat(server->name, ": out of reach, trying again (retry ", state.retries, ")"));
  }
  const bool changed = !server->seen || state.phase != before.phase;
  server->seen = true;
  if (changed && state.end == TransferState::End::kFailed) {
    news.notices.push_back(absl::StrCat(server->name, ": failed"));
  } else if (changed && servers_.size() <= kMostServerLines) {
    news.phases.push_back(absl::StrCat(server->name, ": ", state.phase, VersionPart(state.version)));
  }
  return news;
}

ProgressBar::Sum ProgressBar::Summarize(absl::Time now) const {
  Sum sum;
  std::vector<std::pair<std::string, int>> phases;
  for (const Server& server : servers_) {
    const std::string& phase = server.seen ? server.state.phase : "waiting to start";
    const auto found =
        std::find_if(phases.begin(), phases.end(), [&](const auto& counted) { return counted.first == phase; });
    if (found == phases.end()) {
      phases.emplace_back(phase, 1);
    } else {
      ++found->second;
    }
    sum.done_bytes += server.state.done_bytes;
    sum.total_bytes += server.state.total_bytes;
    if (server.state.end == TransferState::End::kNot) sum.rate += server.meter.BytesPerSecond(now);
  }
  sum.counts =
      absl::StrCat(servers_.size(), " servers: ", absl::StrJoin(phases, ", ", [](std::string* out, const auto& p) {
                     absl::StrAppend(out, p.second, " ", p.first);
                   }));
  return sum;
}

std::vector<std::string> ProgressBar::Bars(size_t width, absl::Time now) const {
  if (servers_.size() > kMostServerLines) {
    const Sum sum = Summarize(now);
    return DrawLines({NewBarLine(Cut(sum.counts, 60), sum.done_bytes, sum.total_bytes, sum.rate)}, width);
  }
  size_t longest = 0;
  for (const Server& server : servers_) longest = std::max(longest, server.name.size());
  const size_t label_columns = std::min({longest, kMostLabel, std::max<size_t>(width / 3, 8)});
  std::vector<BarLine> lines;
  for (const Server& server : servers_) {
    const TransferState& state = server.state;
    const double rate = state.end == TransferState::End::kNot ? server.meter.BytesPerSecond(now) : 0;
    const std::string label =
        absl::StrFormat("%-*s  %-*s", static_cast<int>(label_columns), Cut(server.name, label_columns),
                        static_cast<int>(kPhaseColumns), state.phase);
    lines.push_back(NewBarLine(label, state.done_bytes, state.total_bytes, rate));
  }
  return DrawLines(std::move(lines), width);
}

std::vector<std::string> ProgressBar::Lines(absl::Time now) const {
  if (servers_.size() > kMostServerLines) {
    const Sum sum = Summarize(now);
    return {LogLine(sum.counts, sum.done_bytes, sum.total_bytes, sum.rate)};
  }
  std::vector<std::string> lines;
  for (const Server& server : servers_) {
    if (!server.seen || server.state.end != TransferState::End::kNot) continue;
    lines.push_back(LogLine(absl::StrCat(server.name, ": ", server.state.phase, VersionPart(server.state.version)),
                            server.state.done_bytes, server.state.total_bytes, server.meter.BytesPerSecond(now)));
  }
  return lines;
}

}  // namespace weightstream::command
