#include "client/command/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/command/formatting.h"
#include "client/command/progress_line.h"
#include "client/command/short_labels.h"

namespace weightstream::command {
namespace {

std::string VersionPart(uint64_t version) { return version == 0 ? "" : absl::StrCat(" (version ", version, ")"); }

std::string LogLine(const std::string& label, uint64_t done, uint64_t total, double rate) {
  std::vector<std::string> parts = {label};
  if (total > 0) parts.push_back(absl::StrCat(FormatPercent(done, total), " of ", FormatBytes(total)));
  if (rate >= 1) parts.push_back(FormatRate(rate));
  if (const std::string left = TimeLeftText(done, total, rate); !left.empty()) parts.push_back(left);
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
  int done = 0;
  int failed = 0;
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
    if (server.state.end == TransferState::End::kDone) ++done;
    if (server.state.end == TransferState::End::kFailed) ++failed;
  }
  sum.brief_counts = absl::StrCat(servers_.size(), " servers, ", done, " done");
  if (failed > 0) absl::StrAppend(&sum.brief_counts, ", ", failed, " failed");
  sum.counts =
      absl::StrCat(servers_.size(), " servers: ", absl::StrJoin(phases, ", ", [](std::string* out, const auto& p) {
                     absl::StrAppend(out, p.second, " ", p.first);
                   }));
  return sum;
}

std::vector<std::string> ProgressBar::Bars(size_t width, absl::Time now) const {
  if (servers_.size() > kMostServerLines) {
    const Sum sum = Summarize(now);
    return LayOut({{.name = sum.counts,
                    .short_name = sum.brief_counts,
                    .done_bytes = sum.done_bytes,
                    .total_bytes = sum.total_bytes,
                    .bytes_per_second = sum.rate}},
                  width);
  }
  std::vector<std::string> names;
  for (const Server& server : servers_) names.push_back(server.name);
  const std::vector<std::string> short_names = ShortNames(names);
  std::vector<ProgressLine> lines;
  for (size_t i = 0; i < servers_.size(); ++i) {
    const TransferState& state = servers_[i].state;
    lines.push_back(
        {.name = names[i],
         .short_name = short_names[i],
         .phase = state.phase,
         .done_bytes = state.done_bytes,
         .total_bytes = state.total_bytes,
         .bytes_per_second = state.end == TransferState::End::kNot ? servers_[i].meter.BytesPerSecond(now) : 0});
  }
  return LayOut(lines, width);
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
