#include "client/command/watch_view.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command/formatting.h"
#include "client/command/short_labels.h"

namespace weightstream::command {
namespace {

constexpr char kReceiving[] = "receiving";
constexpr char kCommitting[] = "committing";
constexpr char kAborted[] = "aborted";
constexpr char kCurrent[] = "current";
constexpr char kUnreachable[] = "unreachable";
constexpr char kEmpty[] = "empty";

// What is shown first where there is no room for all: it is what people look for.
int Rank(const std::string& kind) {
  if (kind == kReceiving || kind == kCommitting) return 0;
  return kind == kUnreachable ? 1 : 2;
}

// "5 receiving, 2 current", as many of them as there is room for.
std::string Counts(const std::vector<std::string>& kinds, size_t room) {
  std::vector<std::pair<std::string, int>> counts;
  for (const std::string& kind : kinds) {
    const auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& one) { return one.first == kind; });
    if (found != counts.end()) {
      ++found->second;
    } else {
      counts.emplace_back(kind, 1);
    }
  }
  std::string text;
  for (const auto& [kind, count] : counts) {
    const std::string more = absl::StrCat(text.empty() ? "" : ", ", count, " ", kind);
    if (text.size() + more.size() > room) return absl::StrCat(text, " ..").substr(0, room);
    text += more;
  }
  return text;
}

}  // namespace

WatchView::WatchView(const std::vector<std::string>& servers, std::string model) : model_(std::move(model)) {
  const std::vector<std::string> short_names = ShortNames(servers);
  for (size_t i = 0; i < servers.size(); ++i) servers_.push_back({.name = servers[i], .short_name = short_names[i]});
}

bool WatchView::Take(const WatchEvent& event) {
  const auto found =
      std::find_if(servers_.begin(), servers_.end(), [&](const Server& one) { return one.name == event.server; });
  if (found == servers_.end()) return false;
  Server& server = *found;
  if (event.model.empty()) {
    const bool out = event.state == kUnreachable;
    const bool news = out || server.unreachable;
    server.unreachable = out;
    server.reached = server.reached || !out;
    return news;
  }
  server.reached = true;
  server.unreachable = false;
  const auto [place, first_sight] = server.models.try_emplace(event.model);
  Model& model = place->second;
  if (event.state == kCurrent) {
    const bool news = std::exchange(model.seen_current, true);
    model.current = event.version;
    if (model.version == event.version) model.version = 0;
    return news;
  }
  const bool began = model.version != event.version || model.state == kAborted;
  if (began) model.meter = RateMeter();
  model.version = event.version;
  model.state = event.state;
  model.landed_bytes = event.landed_bytes;
  model.total_bytes = event.total_bytes;
  model.meter.Add(event.time, event.landed_bytes);
  if (event.state == kReceiving) return began && !first_sight;
  if (event.state == kCommitting) return false;
  if (event.state == kAborted) return true;
  // Committed: "current" follows, or it was superseded within the moment.
  model.version = 0;
  return false;
}

WatchView::Row WatchView::RowOf(const Server& server) const {
  Row row;
  row.kind = server.unreachable ? kUnreachable : server.reached ? kEmpty : "connecting";
  row.line.name = server.name;
  row.line.short_name = server.short_name;
  row.line.phase = row.kind == kEmpty ? "no models" : row.kind;
  return row;
}

WatchView::Row WatchView::RowOf(const Server& server, const std::string& name, const Model& model,
                                absl::Time now) const {
  Row row;
  // What is the same in every line is said in the first, or nowhere.
  const bool with_server = servers_.size() > 1;
  const bool with_model = model_.empty() || !with_server;
  row.line.name = with_server ? server.name : OneLine(name);
  row.line.short_name = with_server ? server.short_name : row.line.name;
  if (with_server && with_model) row.line.model = OneLine(name);
  row.kind = server.unreachable   ? kUnreachable
             : model.version != 0 ? model.state
             : model.current != 0 ? kCurrent
                                  : kEmpty;
  if (server.unreachable) {
    row.line.phase = kUnreachable;
  } else if (model.version != 0) {
    row.line.phase = absl::StrCat(model.state, " ", model.version);
    if (model.state == kAborted) return row;
    row.line.done_bytes = model.landed_bytes;
    row.line.total_bytes = model.total_bytes;
    if (model.state == kReceiving) row.line.bytes_per_second = model.meter.BytesPerSecond(now);
  } else {
    row.line.phase = model.current == 0 ? "no version" : absl::StrCat("current ", model.current);
  }
  return row;
}

std::vector<WatchView::Row> WatchView::Rows(absl::Time now) const {
  std::vector<Row> rows;
  for (const Server& server : servers_) {
    if (server.models.empty()) rows.push_back(RowOf(server));
    for (const auto& [name, model] : server.models) rows.push_back(RowOf(server, name, model, now));
  }
  return rows;
}

std::string WatchView::Summary(const std::vector<Row>& rows, size_t columns) const {
  std::vector<std::string> kinds;
  for (const Row& row : rows) kinds.push_back(row.kind);
  std::string subject = model_.empty() ? "" : absl::StrCat(OneLine(model_), " on ");
  if (servers_.size() > 1) {
    absl::StrAppend(&subject, servers_.size(), " servers");
  } else {
    absl::StrAppend(&subject, servers_.front().name);
  }
  absl::StrAppend(&subject, ": ");
  return subject.size() >= columns ? subject.substr(0, columns)
                                   : absl::StrCat(subject, Counts(kinds, columns - subject.size()));
}

std::vector<std::string> WatchView::Lines(size_t columns, size_t rows, absl::Time now) const {
  std::vector<Row> all = Rows(now);
  const bool alone = all.size() == 1;
  columns = std::max<size_t>(columns, 2);
  std::string summary = Summary(all, columns - 1);
  // The line below the block is the cursor's.
  const size_t room = std::max<size_t>(rows, 4) - 2;
  std::vector<std::string> hidden;
  if (all.size() > room) {
    std::stable_sort(all.begin(), all.end(), [](const Row& a, const Row& b) { return Rank(a.kind) < Rank(b.kind); });
    for (size_t i = room - 1; i < all.size(); ++i) hidden.push_back(all[i].kind);
    all.resize(room - 1);
  }
  std::vector<ProgressLine> lines;
  for (const Row& row : all) lines.push_back(row.line);
  std::vector<std::string> texts = LayOut(lines, columns);
  if (!hidden.empty()) texts.push_back(absl::StrCat("and ", Counts(hidden, columns)).substr(0, columns - 1));
  if (!alone) texts.insert(texts.begin(), std::move(summary));
  return texts;
}

}  // namespace weightstream::command
